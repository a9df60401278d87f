// Applies patches as Kubernetes' API server does and prints what becomes of the objects: the oracle of test_patches.py.
//
// Each line of standard input is {"type": "json" | "merge" | "strategic", "object": {...}, "patch": ...}; the answer is
// {"object": {...}, "warnings": [...]} or {"code": ..., "message": "..."}, one a line.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	kjson "sigs.k8s.io/json"
)

type question struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
	Patch  json.RawMessage `json:"patch"`
}

type answer struct {
	Object   runtime.Object `json:"object,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`
	Code     int            `json:"code,omitempty"`
	Message  string         `json:"message,omitempty"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := answers.Encode(answerTo(asked)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func answerTo(asked question) (given answer) {
	defer func() {
		if broken := recover(); broken != nil {
			given = answer{Code: http.StatusInternalServerError, Message: fmt.Sprintf("panic: %v", broken)}
		}
	}()
	live, _, err := scheme.Codecs.UniversalDeserializer().Decode(asked.Object, nil, nil)
	if err != nil {
		return answer{Code: http.StatusBadRequest, Message: err.Error()}
	}
	if asked.Type == "strategic" {
		return mergedStrategically(live, asked.Patch)
	}
	var patched []byte
	var strict []error
	if asked.Type == "json" {
		patched, err = operated(asked.Object, asked.Patch)
	} else {
		strict, _ = kjson.UnmarshalStrict(asked.Patch, &map[string]any{})
		patched, err = jsonpatch.MergePatch(asked.Object, asked.Patch)
	}
	if err != nil {
		return answer{Code: http.StatusUnprocessableEntity, Message: err.Error()}
	}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	made, _, err := decoder.Decode(patched, nil, nil)
	return outcome(made, strict, err)
}

func operated(object, patch []byte) ([]byte, error) {
	operations, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, err
	}
	return operations.Apply(object)
}

func mergedStrategically(live runtime.Object, patch []byte) answer {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(live)
	if err != nil {
		return answer{Code: http.StatusInternalServerError, Message: err.Error()}
	}
	changes := map[string]any{}
	strict, err := kjson.UnmarshalStrict(patch, &changes)
	if err != nil {
		return answer{Code: http.StatusBadRequest, Message: err.Error()}
	}
	merged, err := strategicpatch.StrategicMergeMapPatch(object, changes, live)
	if err != nil {
		return answer{Code: code(err), Message: err.Error()}
	}
	made, err := scheme.Scheme.New(live.GetObjectKind().GroupVersionKind())
	if err != nil {
		return answer{Code: http.StatusInternalServerError, Message: err.Error()}
	}
	err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(merged, made, true)
	// The server knows what it is, whatever a patch has taken away.
	made.GetObjectKind().SetGroupVersionKind(live.GetObjectKind().GroupVersionKind())
	return outcome(made, strict, err)
}

// code is that of the answer to a strategic merge that failed.
func code(err error) int {
	for _, known := range []error{
		mergepatch.ErrBadJSONDoc, mergepatch.ErrBadPatchFormatForPrimitiveList, mergepatch.ErrBadPatchFormatForRetainKeys,
		mergepatch.ErrBadPatchFormatForSetElementOrderList,
	} {
		if errors.Is(err, known) {
			return http.StatusBadRequest
		}
	}
	if errors.Is(err, mergepatch.ErrNoListOfLists) {
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

// outcome is a patched object with all that is only warned of, or why there is none.
func outcome(made runtime.Object, strict []error, err error) answer {
	told, isStrict := runtime.AsStrictDecodingError(err)
	if err != nil && !isStrict {
		return answer{Code: http.StatusUnprocessableEntity, Message: err.Error()}
	}
	if isStrict {
		strict = append(strict, told.Errors()...)
	}
	warnings := make([]string, 0, len(strict))
	for _, one := range strict {
		warnings = append(warnings, one.Error())
	}
	return answer{Object: made, Warnings: warnings}
}
