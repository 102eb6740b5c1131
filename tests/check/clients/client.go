// usage: client PORT VERSION CA [CERT KEY]: two connections; in TLS 1.3 the second one resumes.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	ca, err := os.ReadFile(os.Args[3])
	must(err)
	config := &tls.Config{ServerName: "localhost", RootCAs: x509.NewCertPool(),
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
		MinVersion:         tls.VersionTLS12, MaxVersion: tls.VersionTLS12}
	config.RootCAs.AppendCertsFromPEM(ca)
	if os.Args[2] == "1.3" {
		config.MinVersion, config.MaxVersion = tls.VersionTLS13, tls.VersionTLS13
	}
	if len(os.Args) > 4 {
		pair, err := tls.LoadX509KeyPair(os.Args[4], os.Args[5])
		must(err)
		config.Certificates = []tls.Certificate{pair}
	}
	for i := 0; i < 2; i++ {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[1], config)
		must(err)
		_, err = conn.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		must(err)
		answer, err := io.ReadAll(conn)
		must(err)
		conn.Close()
		fmt.Print(strings.SplitN(string(answer), "\r\n\r\n", 2)[1])
	}
}
