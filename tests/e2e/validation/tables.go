package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/printers"
	printersinternal "k8s.io/kubernetes/pkg/printers/internalversion"
)

// printed is what `kubectl get` is told of one object.
type printed struct {
	Columns    []metav1.TableColumnDefinition `json:"columns,omitempty"`
	Cells      []any                          `json:"cells,omitempty"`
	Conditions []metav1.TableRowCondition     `json:"conditions,omitempty"`
	Problem    string                         `json:"problem,omitempty"`
}

// printTables answers each line, an object as it is stored, with its row.
func printTables(in io.Reader, out io.Writer) error {
	generator := printers.NewTableGenerator().With(printersinternal.AddHandlers)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	answers := json.NewEncoder(out)
	for lines.Scan() {
		if err := answers.Encode(rowOf(generator, lines.Bytes())); err != nil {
			return err
		}
	}
	return lines.Err()
}

func rowOf(generator printers.TableGenerator, line []byte) (row printed) {
	defer func() {
		if broken := recover(); broken != nil {
			row = printed{Problem: fmt.Sprintf("panic: %v", broken)}
		}
	}()
	// Without defaults: rows are of what is there.
	obj, _, err := legacyscheme.Codecs.UniversalDeserializer().Decode(line, nil, nil)
	if err != nil {
		return printed{Problem: "undecodable: " + err.Error()}
	}
	internal, err := legacyscheme.Scheme.UnsafeConvertToVersion(obj, runtime.InternalGroupVersioner)
	if err != nil {
		return printed{Problem: "undecodable: " + err.Error()}
	}
	table, err := generator.GenerateTable(internal, printers.GenerateOptions{Wide: true})
	if err != nil {
		return printed{Problem: err.Error()}
	}
	return printed{Columns: table.ColumnDefinitions, Cells: table.Rows[0].Cells, Conditions: table.Rows[0].Conditions}
}
