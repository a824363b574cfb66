package main

import (
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/command"
)

// about are version and the topics of help.
func about(line *command.Line) []*cobra.Command {
	topics := []*cobra.Command{
		{Use: "exit-codes", Short: "what the exit codes mean", Long: exitCodesHelp},
		{Use: "environment", Short: "variables that are read and set", Long: environmentHelp},
	}
	return append(command.In("other", versionCommand(line)), topics...)
}

// versionCommand tells what this binary is.
func versionCommand(line *command.Line) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: cobra.NoArgs,
		Example: "daypass version --output json",
		RunE: func(*cobra.Command, []string) error {
			info, _ := debug.ReadBuildInfo()
			facts := map[string]string{"version": command.Version()}
			if info != nil {
				facts["go"] = info.GoVersion
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						facts["commit"] = s.Value
					}
				}
			}
			return line.Show(facts, func() { line.Printf("daypass %s\n", command.Version()) })
		},
	}
}

const exitCodesHelp = `    0  done
    1  something else went wrong; the message says what
    2  usage: the command line, or what it was given, is wrong
    3  unauthenticated: there is no identity token, or it is not accepted
    4  denied: the policies say no, or a lock does
    5  not found, or not for you to know of
    6  conflict: its present state does not allow it
    7  too many: a limit was reached
    8  unavailable: the server, its store or the target cannot be reached
    9  findings: nothing is wrong, and a strict check found what it should not

daypass run gives the exit code of its command, 128 plus the number of the signal that killed it, or

  125  daypass itself could not do its part before the command started; the message says why
  126  the command was found and cannot be run
  127  the command was not found`

const environmentHelp = `Read:

  DAYPASS_URL             the server, where --server does not say
  DAYPASS_SOCKET          the administration socket, where --socket does not say; else ` + command.DefaultSocket + `
                          when there is one
  DAYPASS_CONFIG          the server's configuration, where --config does not say; else
                          ` + command.DefaultConfig + `
  DAYPASS_CA_FILE         PEM certificates to trust for the server, where --ca-file does not say
  DAYPASS_AUDIENCE        the audience of tokens that are asked for, where it is not the server's URL
  DAYPASS_LEASE           the lease of renew and release, where it is not named
  DAYPASS_LEASE_TOKEN     its lease token
  NO_COLOR                no colours, also on terminals

What says who we are is looked for in this order; the first place that has something is used:

  --token-file            a file with an identity token, read anew for each call
  --client-cert           a file with a certificate for TLS, and those between it and its authority, in PEM;
                          --client-key names the file with its key. Both are read anew for each call, so that
                          a certificate that is renewed counts at once. Shown beside a --token-file, too
  DAYPASS_TOKEN_FILE      the same as --token-file
  DAYPASS_CLIENT_CERT     the same as --client-cert, and DAYPASS_CLIENT_KEY as --client-key
  DAYPASS_SPIFFE          jwt or x509: that SVID of the Workload API at SPIFFE_ENDPOINT_SOCKET, before what
                          follows here. DAYPASS_SPIFFE_ID names one of several identities of the workload
  DAYPASS_DEVICE          the state file of a device that daypass device enrol enrolled; it names the server, too
  DAYPASS_ID_TOKEN        the token itself. In GitLab CI:
                            id_tokens: {DAYPASS_ID_TOKEN: {aud: https://daypass.example.com}}
  GitHub Actions          by ACTIONS_ID_TOKEN_REQUEST_URL, which a job has with
                            permissions: {id-token: write}
  Kubernetes              a projected token at /var/run/secrets/tokens/daypass
  SPIFFE_ENDPOINT_SOCKET  a JWT-SVID of the Workload API there, without DAYPASS_SPIFFE, too
  AWS                     credentials of AWS: of the environment, of the container, or of the EC2 instance

Set for the command of daypass run, and printed by daypass acquire --output env:

  postgres                PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGSSLMODE DATABASE_URL, and
                          PGSSLROOTCERT, a file, where the target has certificates of its own.
                          Inherited variables that could lead the tool elsewhere, such as PGHOSTADDR
                          and PGSERVICE, are taken out.
  oidc-token              OIDC_TOKEN
  aws                     AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_REGION
                          AWS_DEFAULT_REGION, and AWS_ENDPOINT_URL where the target has one. Inherited
                          AWS_PROFILE and other variables that name other keys are taken out.
  gcp                     CLOUDSDK_AUTH_ACCESS_TOKEN GOOGLE_OAUTH_ACCESS_TOKEN
  azure                   AZURE_ACCESS_TOKEN
  kubernetes              KUBECONFIG, a file

Set for the command of daypass run alone:

  DAYPASS_LEASES          the leases that runs inside the command may share, of roles that say share: run.
                          No secret, and of no use without the variables above

A role written NAME=ROLE sets the same variables with NAME_ before each: REPORTS=reports-readonly sets
REPORTS_PGHOST, REPORTS_DATABASE_URL and so on.`
