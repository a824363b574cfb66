package docs_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// howto is a page of the how-to whose console blocks are played, on an installation of its own.
type howto struct {
	before string   // a script that makes what the page takes for granted; page/ has the page's own access files, by number
	put    []string // pairs: what stands in a command where the page has a word for it
}

// job makes the shell a CI job of the main branch, which has a program called report.
const asJob = `
eval "$(job main env | sed -n "s/^\(ACTIONS_[A-Z_]*\)=\(.*\)/export \1='\2'/p")"
`

// applied has the page's own access files beside those of the installation.
const applied = "\ncp page/* access && daypass apply access > applied.txt 2>&1\n"

// published has an issuer's URL that others can trust, for commands that read the configuration without the server.
const published = "echo 'issuer: {url: https://daypass.example.com}' >> daypass.yaml\n"

// lock names the lock that is in force.
const lock = `$(daypass locks --output json | sed -n 's/.*"id": "\(.*\)".*/\1/p')`

// howtos are the pages that are played by TestTheHowTosDoWhatTheySay.
var howtos = map[string]howto{
	"alerts": {before: `
sed 's|https://hooks.example.com/daypass|HOOKS|; s|unix:///dev/log|udp://127.0.0.1:9|; s|/etc/daypass|'$PWD'|' page/alerts >> daypass.yaml
echo 0123456789abcdef0123456789abcdef > hook.key; echo HOOKS > slack-url; chmod 600 hook.key slack-url
`},
	"aws-target":    {before: applied + published},
	"azure-target":  {before: applied + published},
	"devices":       {before: applied},
	"google-target": {before: applied + published},
	"issuer-keys":   {before: asJob + "daypass acquire orders-readonly --quiet --output env > lease.env\n"},
	"kill-switch":   {before: asJob + "daypass acquire orders-readonly --quiet --output env > lease.env\n", put: []string{"unlock LOCK", "unlock " + lock}},
	"let-a-service-trust-daypass": {before: asJob + `
echo 'permit (principal is GitHub::Workload, action == Action::"acquire", resource == Role::"deploy");' > page/deploy.cedar` + applied + published},
	"lint": {before: `
cat > access/orders.cedar <<'END'
permit (principal is GitHub::Workload, action == Action::"acquire", resource == Role::"orders-readonly")
when { principal.claims.repository_owner == "acme" };
END
`},
	"oauth": {before: asJob + `
curl -s -H "Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=$DAYPASS_URL" | sed 's/.*"value":"\([^"]*\)".*/\1/' > var/token
`, put: []string{"/var/run/secrets/tokens/daypass", "$PWD/var/token", "LEASE_TOKEN", `$(sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p' lease.json)`}},
	"posture": {before: `
sed -i 's/^name: github/name: fleet/; /^preset:/d' access/orders.yaml
printf -- '---\nkind: Issuer\nname: corp\noidc: {url: "https://id.corp.example"}\nclaims: {device: string}\n' >> access/orders.yaml
rm access/orders.cedar $(grep -l '^read:' page/*.yaml)` + asJob + applied + `
TOKEN=$(curl -s -H "Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" "$ACTIONS_ID_TOKEN_REQUEST_URL&sub=monitoring&audience=$DAYPASS_URL" | sed 's/.*"value":"\([^"]*\)".*/\1/')
`},
	"rotate-keys": {before: asJob + "cp ledger.vkey old.vkey; daypass run orders-readonly --receipts receipts.txt --quiet -- true\n"},
	"share-a-lease": {before: asJob + `
sed -i 's/^ttl:/share: run\n&/' access/orders.yaml && daypass apply access > applied.txt 2>&1
for n in 1 2; do printf '#!/bin/sh\n' > step-$n; chmod +x step-$n; done
`},
	"verify-the-ledger": {before: asJob},
	"write-a-policy": {before: asJob + `
echo > access/orders.cedar; daypass apply access > applied.txt 2>&1; cp page/1.cedar access/orders.cedar
`, put: []string{"DECISION", `$(daypass run orders-readonly -- true 2>&1 | sed -n 's/.*daypass explain //p')`,
		"REVISION", `$(sed -n 's/^revision \([0-9a-f]*\) .*/\1/p' applied.txt)`}},
}

// Each page has a server, a directory and a shell of its own; one database and one issuer serve all.
func TestTheHowTosDoWhatTheySay(t *testing.T) {
	t.Parallel() // it mostly waits
	clone := startPlayground(t)
	hooks := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer hooks.Close()
	env, err := os.ReadFile(filepath.Join(clone, "playground", "env"))
	if err != nil {
		t.Fatal(err)
	}
	listen := regexp.MustCompile(`export LISTEN=(\S+)`).FindSubmatch(env)
	if listen == nil {
		t.Fatal("the playground does not say where a server may listen")
	}
	for name, how := range howtos {
		t.Run(name, func(t *testing.T) {
			page, err := os.ReadFile("howto/" + name + ".md")
			if err != nil {
				t.Fatal(err)
			}
			dir := layOut(t, clone, name, string(page))
			places := []string{"https://daypass.example.com", "http://" + string(listen[1]), "/etc/daypass/", dir + "/", "/var/lib/daypass", dir + "/var"}
			put, shown := strings.NewReplacer(append(how.put, places...)...), strings.NewReplacer(places...)
			all := commands(string(page))
			if len(all) == 0 {
				t.Fatal("there is nothing to play on the page")
			}
			for i := range all {
				all[i].text, all[i].want = put.Replace(all[i].text), shown.Replace(all[i].want)
			}
			before := strings.ReplaceAll(how.before, "HOOKS", hooks.URL)
			play(t, dir, installation+before, all, 3*time.Minute)
		})
	}
}

// layOut makes a directory that looks like a clone with a playground, in which the page's own files are.
func layOut(t *testing.T, clone, name, page string) string {
	t.Helper()
	dir := filepath.Join(clone, name)
	for _, d := range []string{dir, filepath.Join(dir, "page"), filepath.Join(dir, "var")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"bin", "playground"} {
		if err := os.Symlink(filepath.Join("..", link), filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{"report": "#!/bin/sh\npsql -Atc \"select count(*) || ' orders' from orders\"\n"}
	for i, b := range blocks(page) {
		switch {
		case b.language == "cedar" || b.language == "yaml" && strings.HasPrefix(b.text, "kind: "):
			files[fmt.Sprintf("page/%d.%s", i, b.language)] = b.text
		case b.language == "yaml" && strings.HasPrefix(b.text, "alerts:"):
			files["page/alerts"] = b.text
		}
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// runbooks are the pages with tests of their own.
var runbooks = []string{"backup-and-restore"}

var (
	pageMark  = regexp.MustCompile(`(?m)^\*No test runs the commands of this page`)
	blockMark = regexp.MustCompile(`\A\s*\*No test runs this`)
)

// unplayed returns the lines of a page's shell blocks that no test plays, and of which the page does not say so.
func unplayed(page string, played bool) (lines []int) {
	if pageMark.MatchString(page) {
		return nil
	}
	for _, b := range blocks(page) {
		shell := slices.Contains([]string{"", "bash", "sh", "shell", "zsh"}, b.language)
		inside := slices.Contains([]string{"ini", "yaml"}, b.language) && strings.Contains(b.text, "daypass run ")
		playable := b.language == "console"
		if (shell || inside) && !blockMark.MatchString(b.after) || playable && !played {
			lines = append(lines, b.line)
		}
	}
	return lines
}

func TestEveryCommandOfTheHowTosIsPlayedOrMarked(t *testing.T) {
	pages, err := filepath.Glob("howto/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pages {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".md")
		_, played := howtos[name]
		for _, line := range unplayed(string(page), played || slices.Contains(runbooks, name)) {
			t.Errorf("%s:%d: no test plays these commands: make them a console block of a page in howtos (plays_test.go), or say below them: *No test runs this: it needs …*", path, line)
		}
	}
}

func TestAPageWithCommandsThatNobodyPlaysIsFound(t *testing.T) {
	const mark = "\n*No test runs this: it needs the moon.*\n"
	for name, c := range map[string]struct {
		page   string
		played bool
		want   int
	}{
		"a shell block":                          {"```sh\ndaypass status\n```\n", false, 1},
		"a shell block of a page that is played": {"```sh\ndaypass status\n```\n", true, 1},
		"a block without a language":             {"```\ndaypass status\n```\n", false, 1},
		"an indented one":                        {"1. Do\n\n   ```bash\n   daypass status\n   ```\n", false, 1},
		"a pipeline":                             {"```yaml\nscript:\n  - daypass run role -- ./report\n```\n", false, 1},
		"a marked one":                           {"```sh\ndaypass status\n```\n" + mark, false, 0},
		"a mark is for one block":                {"```sh\ndaypass status\n```\n" + mark + "```sh\ndaypass status\n```\n", false, 1},
		"a page that is marked":                  {"*No test runs the commands of this page: moon.*\n```sh\ndaypass status\n```\n", false, 0},
		"a console block":                        {"```console\n$ daypass status\n```\n", false, 1},
		"a console block that is played":         {"```console\n$ daypass status\n```\n", true, 0},
		"access files":                           {"```yaml\nkind: Issuer\n```\n", false, 0},
	} {
		if got := unplayed(c.page, c.played); len(got) != c.want {
			t.Errorf("%s: found %v, want %d", name, got, c.want)
		}
	}
}
