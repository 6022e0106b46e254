using System.Text.Json.Serialization;

namespace PciOperator.Kubernetes.Models;

/// <summary>A node; only the fields that are used.</summary>
[KubernetesEntity(Group = "", ApiVersion = "v1", Kind = "Node", PluralName = "nodes")]
[EntityScope(EntityScope.Cluster)]
public sealed record V1Node : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string? ApiVersion { get; set; } = "v1";

    /// <inheritdoc/>
    public string? Kind { get; set; } = "Node";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>What is wanted of it.</summary>
    public V1NodeSpec? Spec { get; set; }

    /// <summary>How it is.</summary>
    public V1NodeStatus? Status { get; set; }
}

/// <summary>What is wanted of a node.</summary>
public sealed record V1NodeSpec
{
    /// <summary>Cordoned: nothing new may be placed on it.</summary>
    public bool? Unschedulable { get; set; }

    /// <summary>Taints.</summary>
    public IReadOnlyList<V1Taint>? Taints { get; set; }
}

/// <summary>How a node is.</summary>
public sealed record V1NodeStatus
{
    /// <summary>Conditions, <c>Ready</c> among them.</summary>
    public IReadOnlyList<V1NodeCondition>? Conditions { get; set; }

    /// <summary>Facts of its system.</summary>
    public V1NodeSystemInfo? NodeInfo { get; set; }
}

/// <summary>A condition of a node.</summary>
public sealed record V1NodeCondition
{
    /// <summary>Name, e.g. <c>Ready</c>.</summary>
    public string Type { get; set; } = "";

    /// <summary><c>True</c>, <c>False</c> or <c>Unknown</c>.</summary>
    public string Status { get; set; } = "Unknown";

    /// <summary>When it was last looked at.</summary>
    [JsonConverter(typeof(KubernetesTimeConverter))]
    public DateTimeOffset? LastHeartbeatTime { get; set; }

    /// <summary>When <see cref="Status"/> last changed.</summary>
    [JsonConverter(typeof(KubernetesTimeConverter))]
    public DateTimeOffset? LastTransitionTime { get; set; }

    /// <summary>One word.</summary>
    public string? Reason { get; set; }

    /// <summary>A sentence.</summary>
    public string? Message { get; set; }
}

/// <summary>Facts of a node's system.</summary>
public sealed record V1NodeSystemInfo
{
    /// <summary>Changes with every boot (<c>/proc/sys/kernel/random/boot_id</c>).</summary>
    [JsonPropertyName("bootID")]
    public string? BootId { get; set; }

    /// <summary>As <c>uname -r</c>.</summary>
    public string? KernelVersion { get; set; }
}

/// <summary>A taint of a node.</summary>
public sealed record V1Taint
{
    /// <summary>Key.</summary>
    public string Key { get; set; } = "";

    /// <summary>Value.</summary>
    public string? Value { get; set; }

    /// <summary><c>NoSchedule</c>, <c>PreferNoSchedule</c> or <c>NoExecute</c>.</summary>
    public string Effect { get; set; } = "";

    /// <summary>When a <c>NoExecute</c> taint was added.</summary>
    [JsonConverter(typeof(KubernetesTimeConverter))]
    public DateTimeOffset? TimeAdded { get; set; }
}

/// <summary>What taints are put up with.</summary>
public sealed record V1Toleration
{
    /// <summary>Key of the taint; absent with <c>Exists</c>: all keys.</summary>
    public string? Key { get; set; }

    /// <summary><c>Equal</c> (the default) or <c>Exists</c>.</summary>
    public string? Operator { get; set; }

    /// <summary>Value, for <c>Equal</c>.</summary>
    public string? Value { get; set; }

    /// <summary>Effect; absent: all effects.</summary>
    public string? Effect { get; set; }

    /// <summary>How long a <c>NoExecute</c> taint is put up with.</summary>
    public long? TolerationSeconds { get; set; }

    /// <summary>Whether this toleration covers the taint (k8s.io/api core/v1 ToleratesTaint).</summary>
    public bool Tolerates(V1Taint taint) =>
        (string.IsNullOrEmpty(Effect) || Effect == taint.Effect)
        && (string.IsNullOrEmpty(Key) ? Operator == "Exists" : Key == taint.Key)
        && (Operator is "Exists" || (Operator is null or "" or "Equal" && (Value ?? "") == (taint.Value ?? "")));
}
