using System.Text.Json.Serialization;

namespace PciOperator.Kubernetes.Models;

/// <summary>A lease: who leads, and since when (<c>coordination.k8s.io/v1</c>).</summary>
[KubernetesEntity(Group = "coordination.k8s.io", ApiVersion = "v1", Kind = "Lease", PluralName = "leases")]
public sealed record V1Lease : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string? ApiVersion { get; set; } = "coordination.k8s.io/v1";

    /// <inheritdoc/>
    public string? Kind { get; set; } = "Lease";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>Who holds it and for how long.</summary>
    public V1LeaseSpec? Spec { get; set; }
}

/// <summary>Who holds a lease. Times have microseconds (<c>MicroTime</c>).</summary>
public sealed record V1LeaseSpec
{
    /// <summary>Identity of the holder; empty or absent when it was released.</summary>
    public string? HolderIdentity { get; set; }

    /// <summary>How long others have to wait after <see cref="RenewTime"/>, in seconds.</summary>
    public int? LeaseDurationSeconds { get; set; }

    /// <summary>When the holder took it.</summary>
    [JsonConverter(typeof(KubernetesMicroTimeConverter))]
    public DateTimeOffset? AcquireTime { get; set; }

    /// <summary>When the holder last renewed it.</summary>
    [JsonConverter(typeof(KubernetesMicroTimeConverter))]
    public DateTimeOffset? RenewTime { get; set; }

    /// <summary>How often it changed hands.</summary>
    public int? LeaseTransitions { get; set; }
}
