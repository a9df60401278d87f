package main

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	deploymentstore "k8s.io/kubernetes/pkg/registry/apps/deployment/storage"
	replicasetstore "k8s.io/kubernetes/pkg/registry/apps/replicaset/storage"
	statefulsetstore "k8s.io/kubernetes/pkg/registry/apps/statefulset/storage"
	controllerstore "k8s.io/kubernetes/pkg/registry/core/replicationcontroller/storage"
)

// scaled is the scale of a kind, over a storage that holds what a request says there is.
type scaled struct {
	held  *oneObject
	scale rest.Updater
}

var scales = map[string]scaled{
	"Deployment": newScaled(appsv1.SchemeGroupVersion, "deployments", func(options generic.RESTOptions) (rest.Updater, error) {
		made, err := deploymentstore.NewStorage(options)
		return made.Scale, err
	}),
	"ReplicaSet": newScaled(appsv1.SchemeGroupVersion, "replicasets", func(options generic.RESTOptions) (rest.Updater, error) {
		made, err := replicasetstore.NewStorage(options)
		return made.Scale, err
	}),
	"StatefulSet": newScaled(appsv1.SchemeGroupVersion, "statefulsets", func(options generic.RESTOptions) (rest.Updater, error) {
		made, err := statefulsetstore.NewStorage(options)
		return made.Scale, err
	}),
	"ReplicationController": newScaled(corev1.SchemeGroupVersion, "replicationcontrollers", func(options generic.RESTOptions) (rest.Updater, error) {
		made, err := controllerstore.NewStorage(options)
		return made.Scale, err
	}),
}

func newScaled(version schema.GroupVersion, plural string, make func(generic.RESTOptions) (rest.Updater, error)) scaled {
	held := &oneObject{versioner: storage.APIObjectVersioner{}}
	codec := legacyscheme.Codecs.LegacyCodec(version)
	scale, err := make(generic.RESTOptions{
		StorageConfig:  (&storagebackend.Config{Codec: codec}).ForResource(version.WithResource(plural).GroupResource()),
		ResourcePrefix: plural,
		Decorator: func(*storagebackend.ConfigForResource, string, func(runtime.Object) (string, error),
			func() runtime.Object, func() runtime.Object, storage.AttrFunc, storage.IndexerFuncs, *cache.Indexers,
		) (storage.Interface, factory.DestroyFunc, error) {
			return held, func() {}, nil
		},
	})
	if err != nil {
		panic(err)
	}
	return scaled{held: held, scale: scale}
}

// answerToScale is about a Scale put to the object that the question calls old.
func answerToScale(asked question) answer {
	scale, _, err := decode(asked.Object)
	if err != nil {
		return answer{Undecodable: err.Error()}
	}
	parent, gvk, err := decode(asked.Old)
	if err != nil {
		return answer{Undecodable: "old: " + err.Error()}
	}
	kind, known := scales[gvk.Kind]
	if !known {
		return answer{Undecodable: "no scale of " + gvk.String()}
	}
	kind.held.object = parent
	accessor, _ := meta.Accessor(parent)
	warnings := heard{}
	ctx := requestContext("scale", parent, *gvk, &warnings)
	stored, err := kind.put(ctx, accessor.GetName(), scale)
	if err != nil {
		return refusal(err, warnings)
	}
	encoded, err := runtime.Encode(legacyscheme.Codecs.LegacyCodec(autoscalingv1.SchemeGroupVersion), stored)
	if err != nil {
		return answer{Undecodable: err.Error()}
	}
	return answer{Object: encoded, Warnings: warnings}
}

func (s scaled) put(ctx context.Context, name string, scale runtime.Object) (runtime.Object, error) {
	stored, _, err := s.scale.Update(
		ctx, name, rest.DefaultUpdatedObjectInfo(scale), rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false,
		&metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
	return stored, err
}
