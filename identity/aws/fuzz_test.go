package aws

import (
	"encoding/base64"
	"strings"
	"testing"
)

const good = `{"method":"POST","url":"https://sts.eu-central-1.amazonaws.com/","headers":{"Authorization":"AWS4-HMAC-SHA256 Credential=ASIAEXAMPLEEXAMPLE12/20260301/eu-central-1/sts/aws4_request, SignedHeaders=content-length;content-type;host;x-amz-date;x-daypass-server, Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","Content-Length":"43","Content-Type":"application/x-www-form-urlencoded","X-Amz-Date":"20260301T120000Z","X-Daypass-Server":"https://daypass.example.com"},"body":"Action=GetCallerIdentity&Version=2011-06-15"}`

// FuzzEvidence looks at what would be sent: nothing but one request, to STS, with all of it signed.
func FuzzEvidence(f *testing.F) {
	if r, err := parseEvidence(Prefix + base64.RawURLEncoding.EncodeToString([]byte(good))); err != nil || r.endpoint.region != "eu-central-1" {
		f.Fatal(r, err)
	}
	f.Add([]byte(good))
	f.Add([]byte(strings.Replace(good, "sts.eu-central-1", "sts-fips.us-east-1", 1)))
	f.Add([]byte(`{"method":"POST","url":"https://sts.s3.amazonaws.com/","headers":{"host":"x"},"body":""}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseEvidence(Prefix + base64.RawURLEncoding.EncodeToString(text))
		if err != nil {
			return
		}
		if e, ok := endpointOf(r.endpoint.host); !ok || e != r.endpoint || r.server == "" || len(r.signature) != 64 || r.signedAt.IsZero() {
			t.Fatalf("%q gives %+v", text, r)
		}
		signed := forms["authorization"].FindStringSubmatch(r.headers["authorization"])[3]
		for name, value := range r.headers {
			if strings.ContainsAny(value, "\r\n\x00") || name != "authorization" && !strings.Contains(";"+signed+";", ";"+name+";") {
				t.Fatalf("%q sends %s: %q", text, name, value)
			}
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn><UserId>AROAEXAMPLEEXAMPLE123:s</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`))
	f.Add([]byte(`<?xml version="1.0"?><ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>`))
	f.Add([]byte(`<a><a/><![CDATA[x]]></a>`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := parseAnswer(text)
		if err != nil {
			return
		}
		c, err := parseCaller(a)
		if err != nil {
			return
		}
		if c.subject == "" || len(c.subject) > maxSubject || !strings.Contains(c.subject, ":"+c.account+":") || strings.ContainsAny(c.subject, " \n\x00") || strings.Count(string(text), c.account) == 0 {
			t.Fatalf("%q gives %+v", text, c)
		}
	})
}
