package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
)

// informAll syncs informers over every kind in protobuf: typed ones, and ones of metadata alone.
func informAll(ctx context.Context, config *rest.Config) error {
	own := rest.CopyConfig(config)
	own.ContentType, own.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(own)
	if err != nil {
		return err
	}
	// Discovery, too, is asked for protobuf.
	lists, err := client.Discovery().ServerPreferredResources()
	if err != nil {
		return err
	}
	resources, err := discovery.GroupVersionResources(
		discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "watch"}}, lists))
	if err != nil {
		return err
	}
	typed := informers.NewSharedInformerFactory(client, 0)
	alone := metadatainformer.NewSharedInformerFactory(metadata.NewForConfigOrDie(metadata.ConfigFor(config)), 0)
	count := 0
	for resource := range resources {
		if !scheme.IsGroupRegistered(resource.Group) {
			// A custom resource, which may be about to go.
			delete(resources, resource)
			continue
		}
		alone.ForResource(resource)
		if informer, err := typed.ForResource(resource); err == nil {
			informer.Informer()
			count++
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	typed.Start(ctx.Done())
	alone.Start(ctx.Done())
	for kind, synced := range typed.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("the informer of %v did not sync", kind)
		}
	}
	synced := alone.WaitForCacheSync(ctx.Done())
	for resource := range resources {
		if !synced[resource] {
			return fmt.Errorf("the metadata informer of %v did not sync", resource)
		}
	}
	fmt.Printf("synced %d typed informers and %d of metadata\n", count, len(synced))
	return nil
}

// review asks what is answered and not stored.
func review(ctx context.Context, config *rest.Config) error {
	own := rest.CopyConfig(config)
	own.ContentType, own.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf
	client := kubernetes.NewForConfigOrDie(own)
	self, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil || self.Status.UserInfo.Username == "" {
		return fmt.Errorf("who am I: %w, %v", err, self)
	}
	may, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods"}},
	}, metav1.CreateOptions{})
	if err != nil || !may.Status.Allowed {
		return fmt.Errorf("may I: %w, %v", err, may)
	}
	token, err := client.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil || token.Status.Token == "" {
		return fmt.Errorf("token: %w", err)
	}
	known, err := client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token.Status.Token},
	}, metav1.CreateOptions{})
	if err != nil || known.Status.User.Username != "system:serviceaccount:default:default" || len(known.Status.User.Extra) == 0 {
		return fmt.Errorf("token review: %w, %v", err, known)
	}
	if _, err := client.CoreV1().ConfigMaps("default").Get(ctx, "absent", metav1.GetOptions{}); err == nil {
		return errors.New("what is absent was found")
	}
	fmt.Println("reviewed")
	return nil
}

// fillIn puts a certificate, a signing request, a key and its proof where kinds.yaml names them.
func fillIn(text []byte) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "protobuf"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, authority, authority, key.Public(), key)
	if err != nil {
		return nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "protobuf"}}, key)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	// Of a PodCertificateRequest: the pod's uid signed with the key.
	digest := sha256.Sum256([]byte("u"))
	proof, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	written := func(kind string, bytes []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes})
	}
	bundle := written("CERTIFICATE", certificate)
	encoded := base64.StdEncoding.EncodeToString
	text = bytes.ReplaceAll(text, []byte(" CERTIFICATE64"), []byte(" "+encoded(bundle)))
	text = bytes.ReplaceAll(text, []byte(" CERTIFICATE"), []byte(" "+strconv.Quote(string(bundle))))
	text = bytes.ReplaceAll(text, []byte(" PUBLIC"), []byte(" "+encoded(public)))
	text = bytes.ReplaceAll(text, []byte(" PROOF"), []byte(" "+encoded(proof)))
	return bytes.ReplaceAll(text, []byte(" REQUEST"), []byte(" "+encoded(written("CERTIFICATE REQUEST", request)))), nil
}
