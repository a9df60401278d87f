package main

import (
	"encoding/json"
	"fmt"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresource"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured/unstructuredscheme"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

func init() {
	install.Install(legacyscheme.Scheme)
	definition := schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}
	kinds[definition] = of(customresourcedefinition.NewStrategy(legacyscheme.Scheme)).
		with("status", customresourcedefinition.NewStatusStrategy(legacyscheme.Scheme))
}

// customKind is one version of the kind that a definition defines.
type customKind struct {
	kind       kind
	structural *structuralschema.Structural
}

// made remembers the kind that was asked about last: many questions in a row are about the same.
var made struct {
	definition string
	version    string
	kind       *customKind
}

func customKindOf(raw json.RawMessage, version string) (*customKind, error) {
	if made.kind != nil && made.definition == string(raw) && made.version == version {
		return made.kind, nil
	}
	found, err := newCustomKind(raw, version)
	if err == nil {
		made.definition, made.version, made.kind = string(raw), version, found
	}
	return found, err
}

func newCustomKind(raw json.RawMessage, version string) (*customKind, error) {
	given := apiextensionsv1.CustomResourceDefinition{}
	if err := json.Unmarshal(raw, &given); err != nil {
		return nil, err
	}
	definition := apiextensions.CustomResourceDefinition{}
	convert := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition
	if err := convert(&given, &definition, nil); err != nil {
		return nil, err
	}
	whole, err := apiextensions.GetSchemaForVersion(&definition, version)
	if err != nil || whole == nil || whole.OpenAPIV3Schema == nil {
		return nil, fmt.Errorf("no schema of %s: %v", version, err)
	}
	structural, err := structuralschema.NewStructural(whole.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	validator, _, err := validation.NewSchemaValidator(whole.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	subresources, err := apiextensions.GetSubresourcesForVersion(&definition, version)
	if err != nil {
		return nil, err
	}
	var status *apiextensions.CustomResourceSubresourceStatus
	var scale *apiextensions.CustomResourceSubresourceScale
	var statusValidator validation.SchemaValidator
	if subresources != nil {
		status, scale = subresources.Status, subresources.Scale
	}
	if statusSchema, found := whole.OpenAPIV3Schema.Properties["status"]; found && status != nil {
		if statusValidator, _, err = validation.NewSchemaValidator(&statusSchema); err != nil {
			return nil, err
		}
	}
	strategy := customresource.NewStrategy(
		unstructuredscheme.NewUnstructuredObjectTyper(),
		given.Spec.Scope == apiextensionsv1.NamespaceScoped,
		schema.GroupVersionKind{Group: given.Spec.Group, Version: version, Kind: given.Spec.Names.Kind},
		validator, statusValidator, structural, status, scale, nil,
	)
	found := kind{create: strategy, updates: map[string]rest.RESTUpdateStrategy{"update": strategy}}
	if status != nil {
		found.updates["status"] = customresource.NewStatusStrategy(strategy)
	}
	return &customKind{kind: found, structural: structural}, nil
}

// decode does what the handler of custom resources does with a body: defaults, pruning, coercion of metadata.
func (k *customKind) decode(raw json.RawMessage) (*unstructured.Unstructured, error) {
	obj, _, err := unstructured.UnstructuredJSONScheme.Decode(raw, nil, nil)
	if err != nil {
		return nil, err
	}
	given := obj.(*unstructured.Unstructured)
	meta, found, err := objectmeta.GetObjectMeta(given.Object, false)
	if err != nil {
		return nil, err
	}
	defaulting.Default(given.Object, k.structural)
	pruning.Prune(given.Object, k.structural, true)
	defaulting.PruneNonNullableNullsWithoutDefaults(given.Object, k.structural)
	if err := objectmeta.Coerce(nil, given.Object, k.structural, false, false); err != nil {
		return nil, err
	}
	if found {
		return given, objectmeta.SetObjectMeta(given.Object, meta)
	}
	return given, nil
}

func answerToCustom(asked question) answer {
	head := unstructured.Unstructured{}
	if err := json.Unmarshal(asked.Object, &head.Object); err != nil {
		return answer{Undecodable: err.Error()}
	}
	gvk := head.GroupVersionKind()
	kind, err := customKindOf(asked.Definition, gvk.Version)
	if err != nil {
		return answer{Undecodable: err.Error()}
	}
	obj, err := kind.decode(asked.Object)
	if err != nil {
		return answer{Undecodable: err.Error()}
	}
	var old runtime.Object
	if len(asked.Old) > 0 {
		if old, err = kind.decode(asked.Old); err != nil {
			return answer{Undecodable: "old: " + err.Error()}
		}
	}
	warnings := heard{}
	ctx := requestContext(asked.Operation, obj, gvk, &warnings)
	stored, err := kind.kind.write(ctx, asked.Operation, obj, old)
	if err != nil {
		return refusal(err, warnings)
	}
	encoded, err := json.Marshal(stored)
	if err != nil {
		return answer{Undecodable: err.Error()}
	}
	return answer{Object: encoded, Warnings: warnings}
}
