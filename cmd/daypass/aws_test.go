package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/daypass/daypass/internal/testbed"
)

// TestAWSScripts runs scripts from the chair of a workflow run that reads objects: the STS that verifies our tokens is
// MinIO's, and the real AWS CLI uses what Daypass gives.
func TestAWSScripts(t *testing.T) {
	postgres := testbed.SharedPostgres(t, 15)
	commands := servedCommands()
	// minio starts a server that trusts the Daypass of the script, and names it in the access files.
	commands["minio"] = func(ts *testscript.TestScript, _ bool, _ []string) {
		m := testbed.OwnMinIO(t, testbed.MinIOOptions{Issuer: ts.Getenv("DAYPASS_URL"), Audience: "sts.amazonaws.com", Policy: "readwrite"})
		ts.Check(putObject(m, "", ""))
		for path, body := range map[string]string{"/orders/1": "an order", "/secrets/1": "a secret"} {
			ts.Check(putObject(m, path, body))
		}
		text := strings.NewReplacer("MINIO", m.URL, "ROLE", m.RoleARN).Replace(ts.ReadFile("access/aws.yaml"))
		ts.Check(os.WriteFile(ts.MkAbs("access/aws.yaml"), []byte(text), 0o600))
		ts.Check(os.WriteFile(ts.MkAbs("profile"), []byte("[profile daypass]\nregion = us-east-1\nendpoint_url = "+m.URL+
			"\ncredential_process = daypass acquire read-orders --output aws-credential-process\n"), 0o600))
	}
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/aws",
		RequireUniqueNames: true,
		Cmds:               commands,
		Setup: func(e *testscript.Env) error {
			tools, err := testbed.AWSToolsPath()
			if err != nil {
				return err
			}
			e.Setenv("PATH", filepath.Join(tools, "bin")+string(filepath.ListSeparator)+e.Getenv("PATH"))
			e.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			return furnish(t, e, postgres)
		},
	})
}

// putObject writes an object of the bucket shop, or makes the bucket.
func putObject(m *testbed.MinIO, path, body string) error {
	request, err := http.NewRequest(http.MethodPut, m.URL+"/shop"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	const unsigned = "UNSIGNED-PAYLOAD"
	request.Header.Set("X-Amz-Content-Sha256", unsigned)
	owner := sdk.Credentials{AccessKeyID: m.User, SecretAccessKey: m.Password}
	if err := v4.NewSigner().SignHTTP(request.Context(), owner, request, unsigned, "s3", "us-east-1", time.Now()); err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("put %q: MinIO answers %d", path, answer.StatusCode)
	}
	return nil
}
