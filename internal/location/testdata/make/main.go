// This program made the databases beside it:
//
//	go mod init make && go get github.com/maxmind/mmdbwriter@v1.2.0 && go run main.go
//
// It is no part of the module, so that its library is not either. The networks are those of documentation (RFC 5737,
// RFC 3849) and of 1.1.0.0/16 and 2.2.0.0/16; who has them is made up.
package main

import (
	"log"
	"net"
	"os"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

func main() {
	flat := func(code string) mmdbtype.DataType { return mmdbtype.Map{"country_code": mmdbtype.String(code)} }
	nested := func(country string, subdivisions ...string) mmdbtype.DataType {
		record := mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(country)}}
		var list mmdbtype.Slice
		for _, code := range subdivisions {
			list = append(list, mmdbtype.Map{"iso_code": mmdbtype.String(code)})
		}
		if list != nil {
			record["subdivisions"] = list
		}
		return record
	}
	write("country.mmdb", "Made-Country", map[string]mmdbtype.DataType{
		"1.1.0.0/16": flat("DE"), "2.2.0.0/16": flat("FR"), "2a00:1::/32": flat("DE"), "3.3.0.0/16": flat("germany"),
		"10.0.0.0/8": flat("US"), "100.64.0.0/10": flat("US"),
	})
	write("city.mmdb", "Made-City", map[string]mmdbtype.DataType{
		"1.1.0.0/16": nested("DE", "BE"), "2.2.0.0/16": nested("GB", "ENG", "LND"), "1.2.0.0/16": nested("DE"),
		"2a00:1::/32": nested("DE", "DE-BY"), "3.3.0.0/16": nested("DE", "no code"), "4.4.0.0/16": mmdbtype.String("DE"),
	})
	write("moved.mmdb", "Made-Country", map[string]mmdbtype.DataType{"1.1.0.0/16": flat("CH")})
}

func write(name, kind string, networks map[string]mmdbtype.DataType) {
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: kind, RecordSize: 24, BuildEpoch: 1780000000, IncludeReservedNetworks: true})
	if err != nil {
		log.Fatal(err)
	}
	for network, record := range networks {
		_, parsed, err := net.ParseCIDR(network)
		if err != nil {
			log.Fatal(err)
		}
		if err := tree.Insert(parsed, record); err != nil {
			log.Fatal(err)
		}
	}
	file, err := os.Create(name)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := tree.WriteTo(file); err != nil {
		log.Fatal(err)
	}
	if err := file.Close(); err != nil {
		log.Fatal(err)
	}
}
