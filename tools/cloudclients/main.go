// Command cloudclients reads one thing at Google Cloud or Azure with the official clients, as a workload does, and prints what
// it was answered.
//
//	cloudclients oauth2 FILE URL        golang.org/x/oauth2/google, with an external_account file
//	cloudclients auth FILE URL          cloud.google.com/go/auth, with the same
//	cloudclients azure TENANT CLIENT TOKEN URL CA SUBSCRIPTION GROUP
//	                                    azidentity with an assertion from a file, and armresources with what it gives; URL is
//	                                    the authority's and the Resource Manager's, CA the authority that its certificate is of
//
// It is for tests, in a module of its own: its dependencies are not ours.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"cloud.google.com/go/auth/credentials"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"
	"golang.org/x/oauth2/google"
)

const scope = "https://www.googleapis.com/auth/cloud-platform"

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "oauth2":
		return withOAuth2(ctx, args[1], args[2])
	case len(args) == 3 && args[0] == "auth":
		return withAuth(ctx, args[1], args[2])
	case len(args) == 8 && args[0] == "azure":
		return withAzure(ctx, args[1:])
	}
	return errors.New("say oauth2, auth or azure, and what for")
}

func withOAuth2(ctx context.Context, file, url string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	credentials, err := google.CredentialsFromJSONWithType(ctx, text, google.ExternalAccount, scope)
	if err != nil {
		return err
	}
	token, err := credentials.TokenSource.Token()
	if err != nil {
		return err
	}
	return get(ctx, url, token.AccessToken)
}

func withAuth(ctx context.Context, file, url string) error {
	given, err := credentials.NewCredentialsFromFile(credentials.ExternalAccount, file, &credentials.DetectOptions{Scopes: []string{scope}})
	if err != nil {
		return err
	}
	token, err := given.Token(ctx)
	if err != nil {
		return err
	}
	return get(ctx, url, token.Value)
}

// get reads a document with a token.
func get(ctx context.Context, url, token string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	fmt.Println(strings.TrimSpace(string(text)))
	return err
}

func withAzure(ctx context.Context, args []string) error {
	tenant, clientID, assertion, url, ca, subscription, group := args[0], args[1], args[2], args[3], args[4], args[5], args[6]
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return errors.New("the file of authorities holds none")
	}
	options := azcore.ClientOptions{
		Transport: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}},
		Cloud: cloud.Configuration{
			ActiveDirectoryAuthorityHost: url + "/",
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: url, Audience: "https://management.azure.com"},
			},
		},
	}
	read := func(context.Context) (string, error) {
		text, err := os.ReadFile(assertion)
		return strings.TrimSpace(string(text)), err
	}
	credential, err := azidentity.NewClientAssertionCredential(tenant, clientID, read, &azidentity.ClientAssertionCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	if err != nil {
		return err
	}
	groups, err := armresources.NewResourceGroupsClient(subscription, credential, &arm.ClientOptions{ClientOptions: options, DisableRPRegistration: true})
	if err != nil {
		return err
	}
	found, err := groups.Get(ctx, group, nil)
	if err != nil {
		return err
	}
	fmt.Println(*found.ID)
	return nil
}
