package aws

import (
	"net"
	"strings"
)

// endpoint is one endpoint of STS.
type endpoint struct {
	host, region, partition string
}

// partition is a part of AWS with accounts and names of its own.
type partition struct {
	url     string // of the issuer that it is to us: fixed for ever, since locks hold it
	suffix  string // of the endpoints' names
	regions string
	fips    string // regions with a FIPS endpoint beside the usual one
}

// partitions is the table of partitions and their regions, as the official SDK has it in its release of November 2026.
// The three secret regions' partitions cannot be reached from elsewhere and are left out.
//
// It is a list of names and not a pattern because customers can have names below amazonaws.com: the pattern
// sts.*.amazonaws.com matches sts.s3.amazonaws.com, which is the bucket that is called "sts".
//
// The global endpoint, sts.amazonaws.com, is none of them: sts.us-east-1.amazonaws.com is the same service under a name
// that says where it is.
func partitions() map[string]partition {
	return map[string]partition{
		"aws": {
			url: "https://sts.amazonaws.com", suffix: "amazonaws.com",
			regions: "af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2 ap-southeast-1 " +
				"ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6 ap-southeast-7 ca-central-1 ca-west-1 eu-central-1 " +
				"eu-central-2 eu-north-1 eu-south-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3 il-central-1 me-central-1 me-south-1 mx-central-1 " +
				"sa-east-1 us-east-1 us-east-2 us-west-1 us-west-2",
			fips: "us-east-1 us-east-2 us-west-1 us-west-2",
		},
		"aws-cn":     {url: "https://sts.amazonaws.com.cn", suffix: "amazonaws.com.cn", regions: "cn-north-1 cn-northwest-1"},
		"aws-us-gov": {url: "https://sts.us-gov.amazonaws.com", suffix: "amazonaws.com", regions: "us-gov-east-1 us-gov-west-1"},
		"aws-eusc":   {url: "https://sts.amazonaws.eu", suffix: "amazonaws.eu", regions: "eusc-de-east-1"},
	}
}

// URL returns the identity of the issuer that a partition is, and whether the partition is known. It is a name: not
// every one of these can be called.
func URL(name string) (string, bool) {
	p, ok := partitions()[name]
	return p.url, ok
}

// endpointOf returns the endpoint with a host name.
func endpointOf(host string) (endpoint, bool) {
	service, rest, _ := strings.Cut(host, ".")
	region, suffix, _ := strings.Cut(rest, ".")
	for name, p := range partitions() {
		regions := p.regions
		switch service {
		case "sts":
		case "sts-fips":
			regions = p.fips
		default:
			continue
		}
		if suffix == p.suffix && contains(regions, region) {
			return endpoint{host, region, name}, true
		}
	}
	return endpoint{}, false
}

func contains(words, word string) bool {
	for w := range strings.FieldsSeq(words) {
		if w == word {
			return true
		}
	}
	return false
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
