using System.Text.Json.Serialization;

namespace PciOperator.Kubernetes.Models;

/// <summary>A condition of an object, as in KEP-1623.</summary>
public sealed record V1Condition
{
    /// <summary>CamelCase name, unique in its list.</summary>
    public string Type { get; set; } = "";

    /// <summary><c>True</c>, <c>False</c> or <c>Unknown</c>.</summary>
    public string Status { get; set; } = "Unknown";

    /// <summary>The <c>metadata.generation</c> that the condition was worked out from.</summary>
    public long? ObservedGeneration { get; set; }

    /// <summary>When <see cref="Status"/> last changed.</summary>
    [JsonConverter(typeof(KubernetesTimeConverter))]
    public DateTimeOffset? LastTransitionTime { get; set; }

    /// <summary>One CamelCase word for programs.</summary>
    public string Reason { get; set; } = "";

    /// <summary>A sentence for people.</summary>
    public string Message { get; set; } = "";
}
