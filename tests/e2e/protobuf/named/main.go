// `named` prints the fields whose Go types have names of their own where JSON has a text, a list or a map, of all versions
// that v1.35 serves, as native/core/src/go/named.txt has them.
package main

import (
	"fmt"
	"maps"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

var stable = regexp.MustCompile(`^v[0-9]+$`)

// Versions that are not stable, and served all the same.
var unstable = []string{
	"admissionregistration.k8s.io/v1alpha1", "admissionregistration.k8s.io/v1beta1",
	"certificates.k8s.io/v1alpha1", "certificates.k8s.io/v1beta1",
	"coordination.k8s.io/v1alpha2", "coordination.k8s.io/v1beta1",
	"internal.apiserver.k8s.io/v1alpha1", "networking.k8s.io/v1beta1",
	"resource.k8s.io/v1alpha3", "resource.k8s.io/v1beta1", "resource.k8s.io/v1beta2",
	"scheduling.k8s.io/v1alpha1", "storage.k8s.io/v1beta1", "storagemigration.k8s.io/v1beta1",
}

func main() {
	if err := apiextensionsv1.AddToScheme(scheme.Scheme); err != nil {
		panic(err)
	}
	if err := apiregistrationv1.AddToScheme(scheme.Scheme); err != nil {
		panic(err)
	}
	walk := walker{seen: map[reflect.Type]bool{}, lines: map[string]bool{}}
	for kind, typ := range scheme.Scheme.AllKnownTypes() {
		if stable.MatchString(kind.Version) || slices.Contains(unstable, kind.GroupVersion().String()) {
			walk.visit(typ)
		}
	}
	for _, line := range slices.Sorted(maps.Keys(walk.lines)) {
		fmt.Println(line)
	}
}

type walker struct {
	seen  map[reflect.Type]bool
	lines map[string]bool
}

func (w walker) visit(typ reflect.Type) {
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		w.visit(typ.Elem())
	case reflect.Struct:
		if !w.seen[typ] && strings.HasPrefix(typ.PkgPath(), "k8s.io/") {
			w.seen[typ] = true
			w.fields(typ, typ)
		}
	}
}

// JSON shows the fields of what is embedded among those of whom it is embedded in.
func (w walker) fields(of, typ reflect.Type) {
	for index := range typ.NumField() {
		field := typ.Field(index)
		json, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case json == "-" || !field.IsExported():
		case field.Anonymous && json == "" && field.Type.Kind() == reflect.Struct:
			w.fields(of, field.Type)
		default:
			if named := nameOf(field.Type); named != "" && json != "" {
				w.lines[fmt.Sprintf("%s %s %s", owner(of), json, named)] = true
			}
			w.visit(field.Type)
		}
	}
}

// The struct with the last two parts of its package's path, as definitions of OpenAPI end.
func owner(typ reflect.Type) string {
	folder, last := path.Split(typ.PkgPath())
	return path.Base(folder) + "." + last + "." + typ.Name()
}

// Empty where neither the type nor what it holds has a name of its own.
func nameOf(typ reflect.Type) string {
	kind := typ.Kind()
	switch {
	case kind == reflect.Pointer:
		return nameOf(typ.Elem())
	case typ.PkgPath() != "" && (kind == reflect.String || kind == reflect.Slice || kind == reflect.Map):
		return typ.String()
	case kind == reflect.Slice:
		return prefixed("[]", nameOf(typ.Elem()))
	case kind == reflect.Map:
		return prefixed("map["+typ.Key().String()+"]", nameOf(typ.Elem()))
	}
	return ""
}

func prefixed(prefix, name string) string {
	if name == "" {
		return ""
	}
	return prefix + name
}
