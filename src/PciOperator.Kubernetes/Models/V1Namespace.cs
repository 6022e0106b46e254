namespace PciOperator.Kubernetes.Models;

/// <summary>A namespace.</summary>
[KubernetesEntity(Group = "", ApiVersion = "v1", Kind = "Namespace", PluralName = "namespaces")]
[EntityScope(EntityScope.Cluster)]
public sealed record V1Namespace : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string? ApiVersion { get; set; } = "v1";

    /// <inheritdoc/>
    public string? Kind { get; set; } = "Namespace";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();
}
