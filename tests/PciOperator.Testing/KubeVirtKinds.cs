using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;

namespace PciOperator.Testing;

/// <summary>KubeVirt's kinds, with as much of a schema as matters here: none.</summary>
public static class KubeVirtKinds
{
    /// <summary>Installs those of these plural names, and waits until they are served.</summary>
    public static async Task InstallAsync(IEntityClient admin, params IEnumerable<string> plurals)
    {
        foreach (string plural in plurals)
        {
            string kind = plural switch
            {
                "kubevirts" => "KubeVirt",
                "virtualmachines" => "VirtualMachine",
                "virtualmachineinstances" => "VirtualMachineInstance",
                _ => throw new ArgumentException($"KubeVirt's {plural} are not known here."),
            };
            await Manifests.InstallCrdAsync(
                admin,
                $$"""
                apiVersion: apiextensions.k8s.io/v1
                kind: CustomResourceDefinition
                metadata:
                  name: {{plural}}.kubevirt.io
                spec:
                  group: kubevirt.io
                  scope: Namespaced
                  names: {kind: {{kind}}, plural: {{plural}}, singular: {{kind.ToLowerInvariant()}}}
                  versions:
                    - name: v1
                      served: true
                      storage: true
                      schema:
                        openAPIV3Schema:
                          type: object
                          x-kubernetes-preserve-unknown-fields: true
                """
            );
        }
    }
}
