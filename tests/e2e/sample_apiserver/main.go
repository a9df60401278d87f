// Command sample is the API server that Kubernetes shows extensions by, with a store of its own in the same process.
package main

import (
	"fmt"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/cli"
	"k8s.io/sample-apiserver/pkg/cmd/server"
)

func main() {
	folder := os.Args[1]
	ctx := genericapiserver.SetupSignalContext()
	store, err := started(folder)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer store.Close()
	options := server.NewWardleServerOptions(os.Stdout, os.Stderr)
	command := server.NewCommandStartWardleServer(ctx, options, false)
	where := store.Clients[0].Addr().String()
	command.SetArgs(append([]string{"--etcd-servers", "http://" + where}, os.Args[2:]...))
	os.Exit(cli.Run(command))
}

func started(folder string) (*embed.Etcd, error) {
	config := embed.NewConfig()
	config.Dir = folder
	config.LogLevel = "error"
	any := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{any}, []url.URL{any}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{any}, []url.URL{any}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	store, err := embed.StartEtcd(config)
	if err == nil {
		<-store.Server.ReadyNotify()
	}
	return store, err
}
