using System.Text.Json.Serialization;

namespace PciOperator.Kubernetes.Models;

/// <summary>A pod; only the fields that are used.</summary>
[KubernetesEntity(Group = "", ApiVersion = "v1", Kind = "Pod", PluralName = "pods")]
public sealed record V1Pod : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string? ApiVersion { get; set; } = "v1";

    /// <inheritdoc/>
    public string? Kind { get; set; } = "Pod";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>What is wanted of it. Reading only: a pod can't be written through this model, which has no containers.</summary>
    public V1PodSpec? Spec { get; set; }

    /// <summary>How it is.</summary>
    public V1PodStatus? Status { get; set; }
}

/// <summary>What is wanted of a pod.</summary>
public sealed record V1PodSpec
{
    /// <summary>The node that it is on.</summary>
    public string? NodeName { get; set; }
}

/// <summary>How a pod is.</summary>
public sealed record V1PodStatus
{
    /// <summary><c>Pending</c>, <c>Running</c>, <c>Succeeded</c>, <c>Failed</c> or <c>Unknown</c>.</summary>
    public string? Phase { get; set; }

    /// <summary>Conditions, <c>Ready</c> among them.</summary>
    public IReadOnlyList<V1PodCondition>? Conditions { get; set; }
}

/// <summary>A condition of a pod.</summary>
public sealed record V1PodCondition
{
    /// <summary>Name, e.g. <c>Ready</c>.</summary>
    public string Type { get; set; } = "";

    /// <summary><c>True</c>, <c>False</c> or <c>Unknown</c>.</summary>
    public string Status { get; set; } = "Unknown";

    /// <summary>When <see cref="Status"/> last changed.</summary>
    [JsonConverter(typeof(KubernetesTimeConverter))]
    public DateTimeOffset? LastTransitionTime { get; set; }

    /// <summary>One word.</summary>
    public string? Reason { get; set; }

    /// <summary>A sentence.</summary>
    public string? Message { get; set; }
}
