package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/daypass/daypass/cmd/daypass/command"
	"github.com/daypass/daypass/internal/issuer"
	"github.com/daypass/daypass/internal/terminal"
)

func (a *app) rotateIssuerCommand() *cobra.Command {
	var withdraw bool
	c := &cobra.Command{
		Use: "rotate", Short: "let the next keys sign the tokens of our own issuer", Args: command.Exactly(),
		Long: command.Wrap(`The server signs tokens with the next keys, which verifiers have been able to read since the rotation before,
			and publishes others that will follow them. The keys that signed until now stay published until their longest token
			has expired. The server does the same by itself, as issuer.rotate in daypass.yaml says. It refuses when the next
			keys have been published for less than an hour.

			--withdraw is for keys that were stolen: all keys are taken out of the published documents at once, and fresh ones
			sign. Tokens that the old ones signed are refused as soon as verifiers read the documents again; some keep them for
			a day. Copies of the documents elsewhere must be replaced too.`),
		Example: `daypass issuer rotate
daypass issuer rotate --withdraw`,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			done, err := client.RotateIssuer(c.Context(), withdraw)
			if err != nil {
				return err
			}
			defer a.Hint("copies that daypass issuer publish made are to be made again; those of issuer.publish follow by themselves")
			return a.Show(done, func() {
				a.Facts([]terminal.Fact{{"signing keys", terminal.Clean(done.Signing)}, {"next keys", terminal.Clean(done.Next)}})
			})
		},
	}
	c.Flags().BoolVar(&withdraw, "withdraw", false, "keys were stolen: take all that were published out of the documents")
	return c
}

func (a *app) issuerCommand() *cobra.Command {
	c := &cobra.Command{Use: "issuer", Short: "replace and publish the keys by which others verify our tokens", RunE: a.Group, Args: cobra.ArbitraryArgs}
	c.AddCommand(a.rotateIssuerCommand(), a.publishCommand())
	return c
}

func (a *app) publishCommand() *cobra.Command {
	return &cobra.Command{
		Use: "publish DIR", Short: "write the issuer's two documents into a directory", Args: command.Exactly("DIR"),
		Long: command.Wrap(`Writes .well-known/openid-configuration and .well-known/jwks.json below a directory that exists, for a bucket or
			web server to serve at the issuer's URL: then those who verify our tokens need not reach this server. Each file is
			replaced whole.

			Run it at least once between two rotations: keys sign that were published by the rotation before. Or name the
			directory as issuer.publish in daypass.yaml: then the server keeps it.`),
		Example: `daypass issuer publish ./public && aws s3 sync ./public s3://acme-daypass-issuer --content-type application/json`,
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.Admin()
			if err != nil {
				return err
			}
			var documents []issuer.Document
			for _, path := range []string{issuer.KeysPath, issuer.ConfigurationPath} {
				body, err := client.IssuerDocument(c.Context(), path)
				if err != nil {
					return err
				}
				documents = append(documents, issuer.Document{Path: path, Body: body})
			}
			url, keys, err := readDocuments(documents)
			if err != nil {
				return err
			}
			if err := issuer.WriteTo(args[0], documents); err != nil {
				return err
			}
			done := struct {
				Issuer    string `json:"issuer"`
				Keys      int    `json:"keys"`
				Directory string `json:"directory"`
			}{url, keys, args[0]}
			return a.Show(done, func() {
				a.Facts([]terminal.Fact{{"issuer", terminal.Clean(done.Issuer)}, {"keys", strconv.Itoa(done.Keys)}, {"directory", terminal.Clean(done.Directory)}})
			})
		},
	}
}

// readDocuments refuses documents that no verifier could use.
func readDocuments(documents []issuer.Document) (url string, keys int, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	var about struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	for n, into := range []any{&set, &about} {
		if err := json.Unmarshal(documents[n].Body, into); err != nil {
			return "", 0, fmt.Errorf("read %s of the server: it is not JSON", documents[n].Path)
		}
	}
	if about.Issuer == "" || about.Keys != about.Issuer+issuer.KeysPath || len(set.Keys) == 0 {
		return "", 0, errors.New("the server's documents are not those of an issuer")
	}
	return about.Issuer, len(set.Keys), nil
}
