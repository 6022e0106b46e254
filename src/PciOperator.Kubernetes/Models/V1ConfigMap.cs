namespace PciOperator.Kubernetes.Models;

/// <summary>A config map.</summary>
[KubernetesEntity(Group = "", ApiVersion = "v1", Kind = "ConfigMap", PluralName = "configmaps")]
public sealed record V1ConfigMap : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string? ApiVersion { get; set; } = "v1";

    /// <inheritdoc/>
    public string? Kind { get; set; } = "ConfigMap";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>Text values by key.</summary>
    public IReadOnlyDictionary<string, string>? Data { get; set; }

    /// <summary>Whether the data can't be changed any more.</summary>
    public bool? Immutable { get; set; }
}
