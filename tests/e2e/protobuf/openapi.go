package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/openapi"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// writeOpenAPIFacts prints the messages of OpenAPI v3 as gnostic's descriptor has them. The form is explained at the
// top of native/core/src/protobuf/openapi.txt.
func writeOpenAPIFacts(out io.Writer) error {
	lines := []string{}
	messages := openapiv3.File_openapiv3_OpenAPIv3_proto.Messages()
	for i := range messages.Len() {
		message := messages.Get(i)
		line := string(message.Name()) + ":"
		for j := range message.Fields().Len() {
			line += " " + openAPIField(message.Fields().Get(j))
		}
		lines = append(lines, line+"\n")
	}
	slices.Sort(lines)
	_, err := io.WriteString(out, strings.Join(lines, ""))
	return err
}

func openAPIField(field protoreflect.FieldDescriptor) string {
	name, prefix := field.JSONName(), ""
	if strings.HasPrefix(string(field.Name()), "_") {
		name = "$" + strings.TrimPrefix(string(field.Name()), "_")
	}
	if field.ContainingOneof() != nil {
		name = "|" + name
	}
	if field.IsList() {
		prefix = "[]"
	}
	typ := field.Kind().String()
	if field.Message() != nil {
		typ = string(field.Message().Name())
	}
	return fmt.Sprintf("%s:%d:%s%s", name, field.Number(), prefix, typ)
}

// compareOpenAPI asks for every document of OpenAPI v3 in JSON and in protobuf: the latter has to be what gnostic makes
// of the former.
func compareOpenAPI(config *rest.Config) error {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	paths, err := client.OpenAPIV3().Paths()
	if err != nil {
		return err
	}
	for path, document := range paths {
		text, err := document.Schema(runtime.ContentTypeJSON)
		if err != nil {
			return err
		}
		made, err := openapiv3.ParseDocument(text)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		bytes, err := document.Schema(openapi.ContentTypeOpenAPIV3PB)
		if err != nil {
			return err
		}
		served := &openapiv3.Document{}
		if err := proto.Unmarshal(bytes, served); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		normalize(made.ProtoReflect())
		normalize(served.ProtoReflect())
		if !proto.Equal(made, served) {
			return fmt.Errorf("%s in protobuf is not what it is in JSON", path)
		}
	}
	fmt.Println("described", len(paths))
	return nil
}

// normalize writes values that are texts in YAML in one way.
func normalize(message protoreflect.Message) {
	if value, ok := message.Interface().(*openapiv3.Any); ok {
		if text, err := yaml.YAMLToJSON([]byte(value.Yaml)); err == nil {
			value.Yaml = string(text)
		}
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				normalize(value.List().Get(i).Message())
			}
		default:
			normalize(value.Message())
		}
		return true
	})
}
