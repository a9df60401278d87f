package main

import (
	"encoding/json"
	"io"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// described is what OpenAPI documents say of one custom kind.
type described struct {
	V2 spec.Definitions        `json:"v2"`
	V3 map[string]*spec.Schema `json:"v3"`
}

// printDocuments answers an array of definitions with what is told of the first version of each.
func printDocuments(in io.Reader, out io.Writer) error {
	var definitions []apiextensionsv1.CustomResourceDefinition
	if err := json.NewDecoder(in).Decode(&definitions); err != nil {
		return err
	}
	answers := make([]described, 0, len(definitions))
	for i := range definitions {
		definition := &definitions[i]
		version := definition.Spec.Versions[0].Name
		v2, err := builder.BuildOpenAPIV2(definition, version, builder.Options{V2: true})
		if err != nil {
			return err
		}
		var v3 *spec3.OpenAPI
		if v3, err = builder.BuildOpenAPIV3(definition, version, builder.Options{}); err != nil {
			return err
		}
		// As the controller does, and what serves it.
		answers = append(answers, described{V2: handler.PruneDefaults(v2.Definitions), V3: v3.Components.Schemas})
	}
	return json.NewEncoder(out).Encode(answers)
}
