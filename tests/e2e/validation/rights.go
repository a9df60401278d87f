package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/union"
	listers "k8s.io/client-go/listers/rbac/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/auth/nodeidentifier"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/node"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

// rights is who may do what, and who asks: the modes Node and RBAC judge.
type rights struct {
	ClusterRoles        []*rbacv1.ClusterRole        `json:"clusterRoles"`
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding `json:"clusterRoleBindings"`
	Roles               []*rbacv1.Role               `json:"roles"`
	RoleBindings        []*rbacv1.RoleBinding        `json:"roleBindings"`
	Pods                []*corev1.Pod                `json:"pods"`
	Questions           []rightsQuestion             `json:"questions"`
}

type rightsQuestion struct {
	User        string   `json:"user"`
	Groups      []string `json:"groups"`
	Verb        string   `json:"verb"`
	Group       string   `json:"group"`
	Resource    string   `json:"resource"`
	Subresource string   `json:"subresource"`
	Namespace   string   `json:"namespace"`
	Name        string   `json:"name"`
	Path        string   `json:"path"`
}

type rightsAnswer struct {
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason"`
}

// rbacOf looks roles and bindings up as an API server does, with its words for what is not there.
func rbacOf(given rights) (*rbac.RBACAuthorizer, error) {
	byNamespace := cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}
	made := func() cache.Indexer { return cache.NewIndexer(cache.MetaNamespaceKeyFunc, byNamespace) }
	clusterRoles, clusterBindings, roles, bindings := made(), made(), made(), made()
	var failed []error
	for _, one := range given.ClusterRoles {
		failed = append(failed, clusterRoles.Add(one))
	}
	for _, one := range given.ClusterRoleBindings {
		failed = append(failed, clusterBindings.Add(one))
	}
	for _, one := range given.Roles {
		failed = append(failed, roles.Add(one))
	}
	for _, one := range given.RoleBindings {
		failed = append(failed, bindings.Add(one))
	}
	return rbac.New(
		&rbac.RoleGetter{Lister: listers.NewRoleLister(roles)},
		&rbac.RoleBindingLister{Lister: listers.NewRoleBindingLister(bindings)},
		&rbac.ClusterRoleGetter{Lister: listers.NewClusterRoleLister(clusterRoles)},
		&rbac.ClusterRoleBindingLister{Lister: listers.NewClusterRoleBindingLister(clusterBindings)},
	), errors.Join(failed...)
}

// judgeRights reads one JSON object and writes the list of answers.
func judgeRights(in io.Reader, out io.Writer) error {
	var given rights
	if err := json.NewDecoder(in).Decode(&given); err != nil {
		return err
	}
	held, err := rbacOf(given)
	if err != nil {
		return err
	}
	graph := node.NewGraph()
	for _, pod := range given.Pods {
		graph.AddPod(pod)
	}
	nodes := node.NewAuthorizer(graph, nodeidentifier.NewDefaultNodeIdentifier(), bootstrappolicy.NodeRules())
	modes := union.New(nodes, held)
	answers := make([]rightsAnswer, 0, len(given.Questions))
	for _, asked := range given.Questions {
		decision, reason, err := modes.Authorize(context.Background(), authorizer.AttributesRecord{
			User:            &user.DefaultInfo{Name: asked.User, Groups: asked.Groups},
			Verb:            asked.Verb,
			APIGroup:        asked.Group,
			APIVersion:      "*",
			Resource:        asked.Resource,
			Subresource:     asked.Subresource,
			Namespace:       asked.Namespace,
			Name:            asked.Name,
			Path:            asked.Path,
			ResourceRequest: asked.Path == "",
		})
		if err != nil {
			return err
		}
		answers = append(answers, rightsAnswer{Allowed: decision == authorizer.DecisionAllow, Reason: reason})
	}
	return json.NewEncoder(out).Encode(answers)
}
