// What Kubernetes' own Go code makes of protobuf: facts of its types, golden vectors, and a client that compares; and
// what it says of query parameters.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apidiscoveryv2beta1 "k8s.io/api/apidiscovery/v2beta1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1beta1 "k8s.io/apimachinery/pkg/apis/meta/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

var scheme = runtime.NewScheme()

func init() {
	utilruntime.Must(clientscheme.AddToScheme(scheme))
	utilruntime.Must(apiextensionsv1.AddToScheme(scheme))
	utilruntime.Must(apiregistrationv1.AddToScheme(scheme))
	utilruntime.Must(apidiscoveryv2.AddToScheme(scheme))
	utilruntime.Must(apidiscoveryv2beta1.AddToScheme(scheme))
	utilruntime.Must(metav1beta1.AddMetaToScheme(scheme))
	utilruntime.Must(metav1.AddMetaToScheme(scheme))
}

// The group versions that v1.35 serves, discovery's own among them.
var versions = []string{
	"v1", "meta.k8s.io/v1", "meta.k8s.io/v1beta1",
	"admissionregistration.k8s.io/v1", "admissionregistration.k8s.io/v1alpha1", "admissionregistration.k8s.io/v1beta1",
	"apidiscovery.k8s.io/v2", "apidiscovery.k8s.io/v2beta1",
	"apiextensions.k8s.io/v1", "apiregistration.k8s.io/v1",
	"apps/v1", "authentication.k8s.io/v1", "authorization.k8s.io/v1", "autoscaling/v1", "autoscaling/v2", "batch/v1",
	"certificates.k8s.io/v1", "certificates.k8s.io/v1alpha1", "certificates.k8s.io/v1beta1",
	"coordination.k8s.io/v1", "coordination.k8s.io/v1alpha2", "coordination.k8s.io/v1beta1",
	"discovery.k8s.io/v1", "events.k8s.io/v1", "flowcontrol.apiserver.k8s.io/v1", "internal.apiserver.k8s.io/v1alpha1",
	"networking.k8s.io/v1", "networking.k8s.io/v1beta1", "node.k8s.io/v1", "policy/v1", "rbac.authorization.k8s.io/v1",
	"resource.k8s.io/v1", "resource.k8s.io/v1alpha3", "resource.k8s.io/v1beta1", "resource.k8s.io/v1beta2",
	"scheduling.k8s.io/v1", "scheduling.k8s.io/v1alpha1", "storage.k8s.io/v1", "storage.k8s.io/v1beta1",
	"storagemigration.k8s.io/v1beta1",
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "facts":
		return writeFacts(os.Stdout, versions)
	case len(args) == 1 && args[0] == "openapi":
		return writeOpenAPIFacts(os.Stdout)
	case len(args) == 1 && args[0] == "parameters":
		return writeParameters(os.Stdout)
	case len(args) == 2 && args[0] == "vectors":
		return writeVectors(args[1])
	case len(args) == 2 && args[0] == "compare":
		return compare(args[1])
	}
	return errors.New("usage: protobuf facts | openapi | parameters | vectors FOLDER | compare KUBECONFIG")
}

func compare(kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 1000, 1000
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	return errors.Join(compareAll(ctx, config), informAll(ctx, config), review(ctx, config), compareOpenAPI(config))
}
