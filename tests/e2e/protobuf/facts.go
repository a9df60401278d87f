package main

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// What JSON shows as something else than an object of the message's fields.
var special = map[reflect.Type]string{
	reflect.TypeFor[metav1.Time]():                                  "time",
	reflect.TypeFor[metav1.MicroTime]():                             "microtime",
	reflect.TypeFor[metav1.FieldsV1]():                              "json",
	reflect.TypeFor[apiextensionsv1.JSON]():                         "json",
	reflect.TypeFor[runtime.RawExtension]():                         "extension",
	reflect.TypeFor[resource.Quantity]():                            "quantity",
	reflect.TypeFor[intstr.IntOrString]():                           "intstr",
	reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrArray]():       "orlist",
	reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrBool]():        "orbool",
	reflect.TypeFor[apiextensionsv1.JSONSchemaPropsOrStringArray](): "orstrings",
}

var scalars = map[reflect.Kind]string{
	reflect.String: "string", reflect.Bool: "bool", reflect.Float64: "double",
	reflect.Int: "int64", reflect.Int32: "int32", reflect.Int64: "int64",
}

// writeFacts prints the messages of Kubernetes' API as its Go types define them, and which kinds they are. The form is
// explained at the top of native/core/src/protobuf/messages.txt.
func writeFacts(out io.Writer, versions []string) error {
	walk := walker{lines: map[string]string{}}
	for _, version := range versions {
		group, err := schema.ParseGroupVersion(version)
		if err != nil {
			return err
		}
		kinds := []string{}
		for kind, typ := range scheme.KnownTypes(group) {
			// The options' kinds are registered in every version, and listed for one.
			if strings.HasPrefix(typ.PkgPath(), "k8s.io/apimachinery/") && version != "v1" && group.Group != "meta.k8s.io" {
				continue
			}
			walk.visit(typ)
			if name := messageName(typ); strings.HasSuffix(name, "."+kind) {
				kinds = append(kinds, " "+strings.TrimPrefix(name, home(version)))
			}
		}
		if len(kinds) == 0 {
			return fmt.Errorf("no kinds in %s", version)
		}
		slices.Sort(kinds)
		fmt.Fprintf(out, "@%s %s:%s\n", version, strings.TrimSuffix(home(version), "."), strings.Join(kinds, ""))
	}
	names := []string{}
	for name := range walk.lines {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(out, "%s:%s\n", name, walk.lines[name])
	}
	return nil
}

// home is what the names of a group version's own messages begin with: "core.v1.".
func home(version string) string {
	group, name, found := strings.Cut(version, "/")
	if !found {
		group, name = "core", version
	}
	group, _, _ = strings.Cut(group, ".")
	if group == "internal" {
		group = "apiserverinternal"
	}
	return group + "." + name + "."
}

type walker struct {
	lines map[string]string
}

// visit prints a message and those it holds.
func (w *walker) visit(typ reflect.Type) {
	name := messageName(typ)
	if _, seen := w.lines[name]; seen {
		return
	}
	w.lines[name] = ""
	line := ""
	for i := range typ.NumField() {
		field := typ.Field(i)
		if tag := field.Tag.Get("protobuf"); tag != "" && tag != "-" {
			line += " " + w.field(field, tag, strings.TrimSuffix(name, typ.Name()))
		}
	}
	w.lines[name] = line
}

// field is a word for one field: sigil, name in JSON, number, type.
func (w *walker) field(field reflect.StructField, tag, home string) string {
	parts := strings.Split(tag, ",")
	json := strings.Split(field.Tag.Get("json"), ",")
	word := json[0]
	if slices.Contains(json[1:], "inline") && word == "" {
		word = ">" + field.Name
	}
	typ, prefix := field.Type, ""
	switch {
	case typ.Kind() == reflect.Pointer:
		typ = typ.Elem()
		if typ.Kind() != reflect.Struct {
			word = "*" + word
		}
	case typ.Kind() == reflect.Map:
		typ, prefix = typ.Elem(), "{}"
	case typ.Kind() == reflect.Slice && typ.Elem().Kind() != reflect.Uint8 && !isWrapped(typ):
		typ, prefix = typ.Elem(), "[]"
	case scalars[typ.Kind()] != "" && !slices.Contains(json[1:], "omitempty"):
		word = "!" + word
	}
	return fmt.Sprintf("%s:%s:%s%s", word, parts[1], prefix, strings.TrimPrefix(w.typeName(typ), home))
}

func (w *walker) typeName(typ reflect.Type) string {
	if name, ok := special[typ]; ok {
		if strings.HasPrefix(name, "or") {
			w.visit(reflect.TypeFor[apiextensionsv1.JSONSchemaProps]())
		}
		return name
	}
	if name, ok := scalars[typ.Kind()]; ok {
		return name
	}
	if typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Uint8 {
		return "bytes"
	}
	if isWrapped(typ) {
		return "strings"
	}
	if typ.Kind() != reflect.Struct {
		panic("no protobuf type for " + typ.String())
	}
	w.visit(typ)
	return messageName(typ)
}

// isWrapped tells lists of strings that are a message of their own, because they are values of maps.
func isWrapped(typ reflect.Type) bool {
	_, ok := reflect.PointerTo(typ).MethodByName("Unmarshal")
	return ok && typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.String
}

// messageName is the last of a type's path: "core.v1.Pod".
func messageName(typ reflect.Type) string {
	path := strings.Split(typ.PkgPath(), "/")
	return strings.Join(append(path[max(len(path)-2, 0):], typ.Name()), ".")
}
