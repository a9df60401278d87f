// `hashes facts` prints the types that a pod template consists of, as native/core/src/go/pod_template.txt has them.
//
// `hashes` answers, for each line of standard input (a PodTemplateSpec as JSON), with Go's print of it and its hash
// without a collision count and with 3, as Kubernetes' controllers make them of what came by protobuf; `hashes given` of
// what came by JSON, in which amounts need not be canonical.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"reflect"
	"strings"

	"github.com/davecgh/go-spew/spew"
	v1 "k8s.io/api/core/v1"
)

var printing = &spew.ConfigState{
	Indent: " ", SortKeys: true, DisableMethods: true, SpewKeys: true, DisablePointerAddresses: true, DisableCapacities: true,
}

type answer struct {
	Printed string
	Hash    uint32
	Third   uint32
}

var seen = map[reflect.Type]bool{}

// opaque are printed by other means than their fields.
var opaque = map[string]bool{"resource.Quantity": true, "v1.Time": true, "intstr.IntOrString": true}

func facts(t reflect.Type) {
	switch t.Kind() {
	case reflect.Ptr, reflect.Slice, reflect.Map:
		facts(t.Elem())
	case reflect.Struct:
		if seen[t] {
			return
		}
		seen[t] = true
		fmt.Println(t)
		if opaque[t.String()] {
			return
		}
		for i := range t.NumField() {
			field := t.Field(i)
			tag := strings.Split(field.Tag.Get("json"), ",")[0]
			if tag == "" {
				tag = "-"
			}
			fmt.Printf(" %s %s %s\n", field.Name, tag, shape(field.Type))
		}
		for i := range t.NumField() {
			facts(t.Field(i).Type)
		}
	}
}

func shape(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Ptr:
		return "*" + shape(t.Elem())
	case reflect.Slice:
		return t.String() + "=[]" + shape(t.Elem())
	case reflect.Map:
		return t.String() + "=map " + shape(t.Elem())
	case reflect.Struct:
		return t.String()
	}
	return t.String() + "=" + t.Kind().String()
}

func main() {
	asIs := len(os.Args) > 1 && os.Args[1] == "given"
	if len(os.Args) > 1 && !asIs {
		facts(reflect.TypeFor[v1.PodTemplateSpec]())
		return
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var given, template v1.PodTemplateSpec
		if err := json.Unmarshal(lines.Bytes(), &given); err != nil {
			panic(err)
		}
		bytes, err := given.Marshal()
		if err != nil {
			panic(err)
		}
		if err := template.Unmarshal(bytes); err != nil {
			panic(err)
		}
		if asIs {
			template = given
		}
		printed := printing.Sprintf("%#v", template)
		plain, third := fnv.New32a(), fnv.New32a()
		fmt.Fprintf(plain, "%v", printed)
		fmt.Fprintf(third, "%v", printed)
		count := make([]byte, 8)
		binary.LittleEndian.PutUint32(count, 3)
		third.Write(count)
		if err := out.Encode(answer{printed, plain.Sum32(), third.Sum32()}); err != nil {
			panic(err)
		}
	}
}
