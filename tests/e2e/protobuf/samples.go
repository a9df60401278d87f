package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

var when = metav1.Date(2026, 11, 25, 20, 39, 21, 0, time.UTC)

// samples are objects in which something can go wrong: zeroes that mean something and zeroes that mean nothing, messages
// inlined, and all that JSON shows as something else than an object of the message's fields.
func samples() map[string]runtime.Object {
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	return map[string]runtime.Object{
		"empty-pod": &corev1.Pod{},
		"pod":       pod(),
		"deployment": &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "d", Generation: 3},
			Spec: appsv1.DeploymentSpec{
				Replicas: ptr.To[int32](0), RevisionHistoryLimit: ptr.To[int32](0),
				Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{
					MaxSurge: ptr.To(intstr.FromInt32(0)), MaxUnavailable: ptr.To(intstr.FromString("25%")),
				}},
			},
		},
		"service": &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "s", DeletionTimestamp: &when, DeletionGracePeriodSeconds: ptr.To[int64](0)},
			Spec: corev1.ServiceSpec{
				ClusterIP:                     "None",
				Ports:                         []corev1.ServicePort{{Port: 80}, {Name: "x", Port: 81, TargetPort: intstr.FromString("http"), AppProtocol: ptr.To("")}},
				AllocateLoadBalancerNodePorts: ptr.To(false),
				SessionAffinityConfig:         &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{}},
			},
		},
		"claim": &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: ptr.To(""), VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem),
		}},
		"volume": &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/x", Type: ptr.To(corev1.HostPathUnset)}},
			ClaimRef:               &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Name: "c"},
		}},
		"secret": &corev1.Secret{Data: map[string][]byte{"none": {}, "some": {0, 255, 10}}, Immutable: ptr.To(false)},
		"lease": &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To(""), LeaseTransitions: ptr.To[int32](0),
			RenewTime: ptr.To(metav1.NewMicroTime(when.Add(1234567 * time.Nanosecond))),
		}},
		"revision": &appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: []byte(`{"spec":{"n":[1,null,"x"]}}`)}, Revision: 1},
		"budget": &policyv1.PodDisruptionBudget{
			Spec:   policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(0))},
			Status: policyv1.PodDisruptionBudgetStatus{DisruptedPods: map[string]metav1.Time{"p": when}},
		},
		"eviction": &policyv1.Eviction{ObjectMeta: named("p"), DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}},
		"review": &authorizationv1.SubjectAccessReview{
			Spec:   authorizationv1.SubjectAccessReviewSpec{User: "u", Extra: map[string]authorizationv1.ExtraValue{"k": {"v", ""}, "none": {}}},
			Status: authorizationv1.SubjectAccessReviewStatus{Denied: true},
		},
		"whoami": &authenticationv1.SelfSubjectReview{},
		"delete-options": &metav1.DeleteOptions{
			GracePeriodSeconds: ptr.To[int64](0), OrphanDependents: ptr.To(false),
			Preconditions: &metav1.Preconditions{UID: ptr.To[types.UID]("")},
		},
		"status": &metav1.Status{Status: "Failure", Code: 409, Details: &metav1.StatusDetails{
			UID: "u", Causes: []metav1.StatusCause{{Type: "FieldValueInvalid", Field: "x"}}, RetryAfterSeconds: 1,
		}},
		"crd": definition(),
		"list": &corev1.ConfigMapList{
			ListMeta: metav1.ListMeta{ResourceVersion: "7", Continue: "c", RemainingItemCount: ptr.To[int64](0)},
			Items:    []corev1.ConfigMap{{ObjectMeta: named("m"), BinaryData: map[string][]byte{"b": {1}}}, {}},
		},
	}
}

func pod() *corev1.Pod {
	made := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "web", Labels: map[string]string{"b": "2", "a": "1", "empty": ""}, CreationTimestamp: when,
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n", UID: "u", Controller: ptr.To(false)}},
		ManagedFields: []metav1.ManagedFieldsEntry{{
			Manager: "m", Operation: "Update", Time: &when, FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:nodeName":{}}}`)},
		}},
	}}
	made.Spec = corev1.PodSpec{
		TerminationGracePeriodSeconds: ptr.To[int64](0), AutomountServiceAccountToken: ptr.To(false), Priority: ptr.To[int32](-7),
		SecurityContext: &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](0), SupplementalGroups: []int64{0, 1 << 40}},
		Volumes: []corev1.Volume{
			{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "keys", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: ptr.To[int32](0o400)}}},
		},
		Containers: []corev1.Container{{
			Name: "c", Image: "café\n\"<&>", Args: []string{"", "x"},
			Env: []corev1.EnvVar{{Name: "E", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "k", Optional: ptr.To(false),
			}}}},
			EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "m"},
			}}},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("0"),
			}},
			ReadinessProbe: &corev1.Probe{PeriodSeconds: 3, ProbeHandler: corev1.ProbeHandler{
				HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("http"), Scheme: "HTTP"},
			}},
			LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(80)}}},
		}},
		EphemeralContainers: []corev1.EphemeralContainer{{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Stdin: true}, TargetContainerName: "c",
		}},
	}
	made.Status = corev1.PodStatus{
		PodIPs:     []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}},
		Conditions: []corev1.PodCondition{{Type: "Ready", Status: "False", LastTransitionTime: when}},
	}
	return made
}

func definition() *apiextensionsv1.CustomResourceDefinition {
	type props = apiextensionsv1.JSONSchemaProps
	type orArray = apiextensionsv1.JSONSchemaPropsOrArray
	type orBool = apiextensionsv1.JSONSchemaPropsOrBool
	raw := func(text string) apiextensionsv1.JSON { return apiextensionsv1.JSON{Raw: []byte(text)} }
	schema := &props{
		Type: "object", Ref: ptr.To(""), Minimum: ptr.To(0.0), Maximum: ptr.To(1e21), MultipleOf: ptr.To(0.25),
		XPreserveUnknownFields: ptr.To(false), XIntOrString: true,
		Default: ptr.To(raw(`{"a":null}`)), Enum: []apiextensionsv1.JSON{raw("null"), raw(`"x"`), raw("1")},
		Properties: map[string]props{
			"list":  {Items: &orArray{Schema: &props{Type: "string"}}},
			"tuple": {Items: &orArray{JSONSchemas: []props{{Type: "string"}, {}}}},
			"map":   {AdditionalProperties: &orBool{Allows: true, Schema: &props{Type: "integer"}}},
			"any":   {AdditionalProperties: &orBool{Allows: true}},
			"none":  {AdditionalProperties: &orBool{}},
		},
		Dependencies: apiextensionsv1.JSONSchemaDependencies{"a": {Property: []string{"b"}}, "b": {Schema: &props{Type: "object"}}},
	}
	return &apiextensionsv1.CustomResourceDefinition{Spec: apiextensionsv1.CustomResourceDefinitionSpec{
		Group: "example.com", Scope: "Namespaced",
		Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
			Name: "v1", Served: true, Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: schema},
		}},
	}}
}

// writeVectors writes each sample twice, NAME.json and NAME.pb, as Go's own encoders write it.
func writeVectors(folder string) error {
	for name, object := range samples() {
		kinds, _, err := scheme.ObjectKinds(object)
		if err != nil {
			return err
		}
		kind := kinds[0]
		if len(kinds) > 1 {
			// Options are registered in every version.
			kind.Group, kind.Version = "", "v1"
		}
		object.GetObjectKind().SetGroupVersionKind(kind)
		text, err := json.MarshalIndent(object, "", " ")
		if err != nil {
			return err
		}
		var wire bytes.Buffer
		if err := protobuf.NewSerializer(scheme, scheme).Encode(object, &wire); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, name+".json"), append(text, '\n'), 0o644); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, name+".pb"), wire.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
