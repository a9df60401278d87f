package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
	"k8s.io/kubernetes/pkg/registry/core/service/portallocator"
	servicestore "k8s.io/kubernetes/pkg/registry/core/service/storage"
)

var _ = v1.SchemeGroupVersion

// serviceStore is the registry of Services over a storage that holds what a request says there is. Addresses and
// ports come from ranges that no dry run takes from.
type serviceStore struct {
	held   *oneObject
	whole  *servicestore.REST
	status *servicestore.StatusREST
}

var services = newServiceStore()

func newServiceStore() *serviceStore {
	_, cidr, _ := net.ParseCIDR("10.96.0.0/16")
	addresses, err := ipallocator.NewInMemory(cidr)
	if err != nil {
		panic(err)
	}
	ports, err := portallocator.NewInMemory(utilnet.PortRange{Base: 30000, Size: 2768})
	if err != nil {
		panic(err)
	}
	held := &oneObject{versioner: storage.APIObjectVersioner{}}
	codec := legacyscheme.Codecs.LegacyCodec(v1.SchemeGroupVersion)
	options := generic.RESTOptions{
		StorageConfig:  (&storagebackend.Config{Codec: codec}).ForResource(api.Resource("services")),
		ResourcePrefix: "services",
		Decorator: func(*storagebackend.ConfigForResource, string, func(runtime.Object) (string, error),
			func() runtime.Object, func() runtime.Object, storage.AttrFunc, storage.IndexerFuncs, *cache.Indexers,
		) (storage.Interface, factory.DestroyFunc, error) {
			return held, func() {}, nil
		},
	}
	families := map[api.IPFamily]ipallocator.Interface{api.IPv4Protocol: addresses}
	whole, status, _, err := servicestore.NewREST(options, api.IPv4Protocol, families, ports, nil, nil, nil)
	if err != nil {
		panic(err)
	}
	return &serviceStore{held: held, whole: whole, status: status}
}

func (s *serviceStore) write(ctx context.Context, operation string, obj, old runtime.Object) (runtime.Object, error) {
	s.held.object = old
	if operation == "create" {
		return s.whole.Create(ctx, obj, rest.ValidateAllObjectFunc, &metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	}
	info, _ := genericapirequest.RequestInfoFrom(ctx)
	change := rest.DefaultUpdatedObjectInfo(obj)
	options := &metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}}
	var stored runtime.Object
	var err error
	switch operation {
	case "update":
		stored, _, err = s.whole.Update(
			ctx, info.Name, change, rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, options)
	case "status":
		stored, _, err = s.status.Update(
			ctx, info.Name, change, rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, options)
	default:
		err = fmt.Errorf("no strategy for %s", operation)
	}
	return stored, err
}

// oneObject is a storage for dry runs: only reads arrive here.
type oneObject struct {
	storage.Interface
	versioner storage.APIObjectVersioner
	object    runtime.Object
}

func (o *oneObject) Versioner() storage.Versioner { return o.versioner }

func (o *oneObject) Get(_ context.Context, key string, _ storage.GetOptions, into runtime.Object) error {
	if o.object == nil {
		return storage.NewKeyNotFoundError(key, 0)
	}
	target, source := reflect.ValueOf(into).Elem(), reflect.ValueOf(o.object.DeepCopyObject()).Elem()
	if target.Type() != source.Type() {
		return errors.New("another kind is held")
	}
	target.Set(source)
	return nil
}
