using System.Text.Json.Serialization;

namespace PciOperator.Kubernetes.Models;

/// <summary>Something that happened to an object, as <c>kubectl describe</c> shows it (<c>events.k8s.io/v1</c>).</summary>
[KubernetesEntity(Group = "events.k8s.io", ApiVersion = "v1", Kind = "Event", PluralName = "events")]
public sealed record EventsV1Event : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string? ApiVersion { get; set; } = "events.k8s.io/v1";

    /// <inheritdoc/>
    public string? Kind { get; set; } = "Event";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>When it first happened.</summary>
    [JsonConverter(typeof(KubernetesMicroTimeConverter))]
    public DateTimeOffset? EventTime { get; set; }

    /// <summary>How often since, absent when once.</summary>
    public EventsV1EventSeries? Series { get; set; }

    /// <summary>The program, e.g. <c>pcioperator.io/controller</c>.</summary>
    public string? ReportingController { get; set; }

    /// <summary>Which of its instances, e.g. the pod's name; at most 128 characters.</summary>
    public string? ReportingInstance { get; set; }

    /// <summary>What was done, in CamelCase; at most 128 characters.</summary>
    public string? Action { get; set; }

    /// <summary>Why, in CamelCase; at most 128 characters.</summary>
    public string? Reason { get; set; }

    /// <summary>The object that it is about.</summary>
    public V1ObjectReference? Regarding { get; set; }

    /// <summary>A second object, for more complex actions.</summary>
    public V1ObjectReference? Related { get; set; }

    /// <summary>A sentence for people; at most 1,024 bytes.</summary>
    public string? Note { get; set; }

    /// <summary><c>Normal</c> or <c>Warning</c>.</summary>
    public string? Type { get; set; }
}

/// <summary>How often an event happened.</summary>
public sealed record EventsV1EventSeries
{
    /// <summary>How often, the first time included; at least 2.</summary>
    public int Count { get; set; }

    /// <summary>When last.</summary>
    [JsonConverter(typeof(KubernetesMicroTimeConverter))]
    public DateTimeOffset? LastObservedTime { get; set; }
}

/// <summary>Names an object.</summary>
public sealed record V1ObjectReference
{
    /// <summary>Group and version.</summary>
    public string? ApiVersion { get; set; }

    /// <summary>Kind.</summary>
    public string? Kind { get; set; }

    /// <summary>Namespace; absent on cluster-scoped objects.</summary>
    [JsonPropertyName("namespace")]
    public string? NamespaceProperty { get; set; }

    /// <summary>Name.</summary>
    public string? Name { get; set; }

    /// <summary>UID.</summary>
    public string? Uid { get; set; }

    /// <summary>The version of the object that was seen.</summary>
    public string? ResourceVersion { get; set; }
}
