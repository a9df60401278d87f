package main

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/registry/rest"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/utils/clock"

	"k8s.io/kubernetes/pkg/apis/admissionregistration"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	_ "k8s.io/kubernetes/pkg/apis/apiserverinternal/install"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/authentication/install"
	_ "k8s.io/kubernetes/pkg/apis/authorization/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/certificates/install"
	_ "k8s.io/kubernetes/pkg/apis/coordination/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"
	_ "k8s.io/kubernetes/pkg/apis/events/install"
	_ "k8s.io/kubernetes/pkg/apis/flowcontrol/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/node/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	_ "k8s.io/kubernetes/pkg/apis/resource/install"
	_ "k8s.io/kubernetes/pkg/apis/scheduling/install"
	_ "k8s.io/kubernetes/pkg/apis/storage/install"
	_ "k8s.io/kubernetes/pkg/apis/storagemigration/install"

	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingadmissionpolicy"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingadmissionpolicybinding"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingwebhookconfiguration"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicy"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicybinding"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingwebhookconfiguration"
	"k8s.io/kubernetes/pkg/registry/apiserverinternal/storageversion"
	"k8s.io/kubernetes/pkg/registry/apps/controllerrevision"
	"k8s.io/kubernetes/pkg/registry/apps/daemonset"
	"k8s.io/kubernetes/pkg/registry/apps/deployment"
	"k8s.io/kubernetes/pkg/registry/apps/replicaset"
	"k8s.io/kubernetes/pkg/registry/apps/statefulset"
	"k8s.io/kubernetes/pkg/registry/autoscaling/horizontalpodautoscaler"
	"k8s.io/kubernetes/pkg/registry/batch/cronjob"
	"k8s.io/kubernetes/pkg/registry/batch/job"
	csr "k8s.io/kubernetes/pkg/registry/certificates/certificates"
	"k8s.io/kubernetes/pkg/registry/certificates/clustertrustbundle"
	"k8s.io/kubernetes/pkg/registry/certificates/podcertificaterequest"
	"k8s.io/kubernetes/pkg/registry/coordination/lease"
	"k8s.io/kubernetes/pkg/registry/coordination/leasecandidate"
	"k8s.io/kubernetes/pkg/registry/core/configmap"
	"k8s.io/kubernetes/pkg/registry/core/endpoint"
	"k8s.io/kubernetes/pkg/registry/core/event"
	"k8s.io/kubernetes/pkg/registry/core/limitrange"
	"k8s.io/kubernetes/pkg/registry/core/namespace"
	"k8s.io/kubernetes/pkg/registry/core/node"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolume"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim"
	"k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/pkg/registry/core/podtemplate"
	"k8s.io/kubernetes/pkg/registry/core/replicationcontroller"
	"k8s.io/kubernetes/pkg/registry/core/resourcequota"
	"k8s.io/kubernetes/pkg/registry/core/secret"
	"k8s.io/kubernetes/pkg/registry/core/serviceaccount"
	"k8s.io/kubernetes/pkg/registry/discovery/endpointslice"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/flowschema"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/prioritylevelconfiguration"
	"k8s.io/kubernetes/pkg/registry/networking/ingress"
	"k8s.io/kubernetes/pkg/registry/networking/ingressclass"
	"k8s.io/kubernetes/pkg/registry/networking/ipaddress"
	"k8s.io/kubernetes/pkg/registry/networking/networkpolicy"
	"k8s.io/kubernetes/pkg/registry/networking/servicecidr"
	"k8s.io/kubernetes/pkg/registry/node/runtimeclass"
	"k8s.io/kubernetes/pkg/registry/policy/poddisruptionbudget"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrole"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrolebinding"
	"k8s.io/kubernetes/pkg/registry/rbac/role"
	"k8s.io/kubernetes/pkg/registry/rbac/rolebinding"
	"k8s.io/kubernetes/pkg/registry/resource/deviceclass"
	"k8s.io/kubernetes/pkg/registry/resource/devicetaintrule"
	"k8s.io/kubernetes/pkg/registry/resource/resourceclaim"
	"k8s.io/kubernetes/pkg/registry/resource/resourceclaimtemplate"
	"k8s.io/kubernetes/pkg/registry/resource/resourceslice"
	"k8s.io/kubernetes/pkg/registry/scheduling/priorityclass"
	"k8s.io/kubernetes/pkg/registry/scheduling/workload"
	"k8s.io/kubernetes/pkg/registry/storage/csidriver"
	"k8s.io/kubernetes/pkg/registry/storage/csinode"
	"k8s.io/kubernetes/pkg/registry/storage/csistoragecapacity"
	"k8s.io/kubernetes/pkg/registry/storage/storageclass"
	"k8s.io/kubernetes/pkg/registry/storage/volumeattachment"
	"k8s.io/kubernetes/pkg/registry/storage/volumeattributesclass"
	"k8s.io/kubernetes/pkg/registry/storagemigration/storagemigration"
)

// kind has the strategies of one kind; updates are found by operation, "update" or a subresource's name.
type kind struct {
	create  rest.RESTCreateStrategy
	updates map[string]rest.RESTUpdateStrategy
	// store does it all for a kind whose rules are not only in its strategies.
	store func(ctx context.Context, operation string, obj, old runtime.Object) (runtime.Object, error)
}

// both is what strategies of whole objects are.
type both interface {
	rest.RESTCreateStrategy
	rest.RESTUpdateStrategy
}

func of(strategy both) kind {
	return kind{create: strategy, updates: map[string]rest.RESTUpdateStrategy{"update": strategy}}
}

func (k kind) with(subresource string, strategy rest.RESTUpdateStrategy) kind {
	k.updates[subresource] = strategy
	return k
}

var (
	anything       = authorizerfactory.NewAlwaysAllowAuthorizer()
	claim          = resourceclaim.NewStrategy(plainNamespaces{})
	policy         = validatingadmissionpolicy.NewStrategy(anything, nothingResolves{})
	podCertificate = podcertificaterequest.NewStrategy()
)

var kinds = map[schema.GroupKind]kind{
	{Kind: "ConfigMap"}:                     of(configmap.Strategy),
	{Kind: "Endpoints"}:                     of(endpoint.Strategy),
	{Kind: "Event"}:                         of(event.Strategy),
	{Kind: "LimitRange"}:                    of(limitrange.Strategy),
	{Group: "events.k8s.io", Kind: "Event"}: of(event.Strategy),
	{Kind: "Namespace"}:                     of(namespace.Strategy).with("status", namespace.StatusStrategy).with("finalize", namespace.FinalizeStrategy),
	{Kind: "Node"}:                          of(node.Strategy).with("status", node.StatusStrategy),
	{Kind: "PersistentVolume"}:              of(persistentvolume.Strategy).with("status", persistentvolume.StatusStrategy),
	{Kind: "PersistentVolumeClaim"}:         of(persistentvolumeclaim.Strategy).with("status", persistentvolumeclaim.StatusStrategy),
	{Kind: "Pod"}: of(pod.Strategy).with("status", pod.StatusStrategy).
		with("ephemeralcontainers", pod.EphemeralContainersStrategy).with("resize", pod.ResizeStrategy),
	{Kind: "PodTemplate"}:           of(podtemplate.Strategy),
	{Kind: "ReplicationController"}: of(replicationcontroller.Strategy).with("status", replicationcontroller.StatusStrategy),
	{Kind: "ResourceQuota"}:         of(resourcequota.Strategy).with("status", resourcequota.StatusStrategy),
	{Kind: "Secret"}:                of(secret.Strategy),
	{Kind: "Service"}:               {store: services.write},
	{Kind: "ServiceAccount"}:        of(serviceaccount.Strategy),

	{Group: "apps", Kind: "ControllerRevision"}: of(controllerrevision.Strategy),
	{Group: "apps", Kind: "DaemonSet"}:          of(daemonset.Strategy).with("status", daemonset.StatusStrategy),
	{Group: "apps", Kind: "Deployment"}:         of(deployment.Strategy).with("status", deployment.StatusStrategy),
	{Group: "apps", Kind: "ReplicaSet"}:         of(replicaset.Strategy).with("status", replicaset.StatusStrategy),
	{Group: "apps", Kind: "StatefulSet"}:        of(statefulset.Strategy).with("status", statefulset.StatusStrategy),

	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}: of(horizontalpodautoscaler.Strategy).
		with("status", horizontalpodautoscaler.StatusStrategy),
	{Group: "batch", Kind: "CronJob"}: of(cronjob.Strategy).with("status", cronjob.StatusStrategy),
	{Group: "batch", Kind: "Job"}:     of(job.Strategy).with("status", job.StatusStrategy),
	{Group: "certificates.k8s.io", Kind: "CertificateSigningRequest"}: of(csr.Strategy).
		with("status", csr.StatusStrategy).with("approval", csr.ApprovalStrategy),
	{Group: "certificates.k8s.io", Kind: "ClusterTrustBundle"}: of(clustertrustbundle.Strategy),
	{Group: "certificates.k8s.io", Kind: "PodCertificateRequest"}: of(podCertificate).
		with("status", podcertificaterequest.NewStatusStrategy(podCertificate, anything, clock.RealClock{})),
	{Group: "coordination.k8s.io", Kind: "Lease"}:          of(lease.Strategy),
	{Group: "coordination.k8s.io", Kind: "LeaseCandidate"}: of(leasecandidate.Strategy),
	{Group: "discovery.k8s.io", Kind: "EndpointSlice"}:     of(endpointslice.Strategy),
	{Group: "events.k8s.io", Kind: "Event"}:                of(event.Strategy),
	{Group: "flowcontrol.apiserver.k8s.io", Kind: "FlowSchema"}: of(flowschema.Strategy).
		with("status", flowschema.StatusStrategy),
	{Group: "flowcontrol.apiserver.k8s.io", Kind: "PriorityLevelConfiguration"}: of(prioritylevelconfiguration.Strategy).
		with("status", prioritylevelconfiguration.StatusStrategy),
	{Group: "networking.k8s.io", Kind: "IPAddress"}:     of(ipaddress.Strategy),
	{Group: "networking.k8s.io", Kind: "Ingress"}:       of(ingress.Strategy).with("status", ingress.StatusStrategy),
	{Group: "networking.k8s.io", Kind: "IngressClass"}:  of(ingressclass.Strategy),
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}: of(networkpolicy.Strategy),
	{Group: "networking.k8s.io", Kind: "ServiceCIDR"}:   of(servicecidr.Strategy).with("status", servicecidr.StatusStrategy),
	{Group: "node.k8s.io", Kind: "RuntimeClass"}:        of(runtimeclass.Strategy),
	{Group: "policy", Kind: "PodDisruptionBudget"}: of(poddisruptionbudget.Strategy).
		with("status", poddisruptionbudget.StatusStrategy),

	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}:        of(clusterrole.Strategy),
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}: of(clusterrolebinding.Strategy),
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}:               of(role.Strategy),
	{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}:        of(rolebinding.Strategy),

	{Group: "resource.k8s.io", Kind: "DeviceClass"}: of(deviceclass.Strategy),
	{Group: "resource.k8s.io", Kind: "DeviceTaintRule"}: of(devicetaintrule.Strategy).
		with("status", devicetaintrule.StatusStrategy),
	{Group: "resource.k8s.io", Kind: "ResourceClaim"}:         of(claim).with("status", resourceclaim.NewStatusStrategy(claim)),
	{Group: "resource.k8s.io", Kind: "ResourceClaimTemplate"}: of(resourceclaimtemplate.NewStrategy(plainNamespaces{})),
	{Group: "resource.k8s.io", Kind: "ResourceSlice"}:         of(resourceslice.Strategy),
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:       of(priorityclass.Strategy),
	{Group: "scheduling.k8s.io", Kind: "Workload"}:            of(workload.Strategy),

	{Group: "storage.k8s.io", Kind: "CSIDriver"}:             of(csidriver.Strategy),
	{Group: "storage.k8s.io", Kind: "CSINode"}:               of(csinode.Strategy),
	{Group: "storage.k8s.io", Kind: "CSIStorageCapacity"}:    of(csistoragecapacity.Strategy),
	{Group: "storage.k8s.io", Kind: "StorageClass"}:          of(storageclass.Strategy),
	{Group: "storage.k8s.io", Kind: "VolumeAttachment"}:      of(volumeattachment.Strategy).with("status", volumeattachment.StatusStrategy),
	{Group: "storage.k8s.io", Kind: "VolumeAttributesClass"}: of(volumeattributesclass.Strategy),
	{Group: "storagemigration.k8s.io", Kind: "StorageVersionMigration"}: of(storagemigration.Strategy).
		with("status", storagemigration.StatusStrategy),
	{Group: "internal.apiserver.k8s.io", Kind: "StorageVersion"}: of(storageversion.Strategy).
		with("status", storageversion.StatusStrategy),

	{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"}:   of(mutatingwebhookconfiguration.Strategy),
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration"}: of(validatingwebhookconfiguration.Strategy),
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"}: of(policy).
		with("status", validatingadmissionpolicy.NewStatusStrategy(policy)),
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicyBinding"}: of(
		validatingadmissionpolicybinding.NewStrategy(anything, nil, nothingResolves{})),
	{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicy"}: of(
		mutatingadmissionpolicy.NewStrategy(anything, nothingResolves{})),
	{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicyBinding"}: of(
		mutatingadmissionpolicybinding.NewStrategy(anything, noMutatingPolicy{}, nothingResolves{})),
}

// plainNamespaces are namespaces without labels.
type plainNamespaces struct {
	corev1client.NamespaceInterface
}

func (plainNamespaces) Get(_ context.Context, name string, _ metav1.GetOptions) (*corev1.Namespace, error) {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, nil
}

// nothingResolves knows no resource, so that a policy's parameters are asked of no authorizer.
type nothingResolves struct{}

func (nothingResolves) Resolve(schema.GroupVersionKind) (schema.GroupVersionResource, error) {
	return schema.GroupVersionResource{Group: "*", Version: "*", Resource: "*"}, nil
}

type noMutatingPolicy struct{}

func (noMutatingPolicy) GetMutatingAdmissionPolicy(context.Context, string) (*admissionregistration.MutatingAdmissionPolicy, error) {
	return &admissionregistration.MutatingAdmissionPolicy{}, nil
}
