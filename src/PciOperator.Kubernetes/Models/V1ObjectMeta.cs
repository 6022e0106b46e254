using System.Text.Json.Serialization;

namespace PciOperator.Kubernetes.Models;

/// <summary>Metadata of every object. <c>managedFields</c> are not kept: nothing here reads them and they are often
/// larger than the object.</summary>
public sealed record V1ObjectMeta
{
    /// <summary>Name, unique within its kind and namespace.</summary>
    public string? Name { get; set; }

    /// <summary>Prefix from which the server makes a unique name when <see cref="Name"/> is absent.</summary>
    public string? GenerateName { get; set; }

    /// <summary>Namespace; absent on cluster-scoped objects.</summary>
    [JsonPropertyName("namespace")]
    public string? NamespaceProperty { get; set; }

    /// <summary>Unique in time and space: an object deleted and made again has another.</summary>
    public string? Uid { get; set; }

    /// <summary>The version of this state of the object. Comparable as an integer within one kind (KEP-5504).</summary>
    public string? ResourceVersion { get; set; }

    /// <summary>Counts changes of the desired state.</summary>
    public long? Generation { get; set; }

    /// <summary>When the server made it.</summary>
    [JsonConverter(typeof(KubernetesTimeConverter))]
    public DateTimeOffset? CreationTimestamp { get; set; }

    /// <summary>When deletion was asked for; the object stays until its finalizers are gone.</summary>
    [JsonConverter(typeof(KubernetesTimeConverter))]
    public DateTimeOffset? DeletionTimestamp { get; set; }

    /// <summary>Seconds of grace that the deletion gave.</summary>
    public long? DeletionGracePeriodSeconds { get; set; }

    /// <summary>Labels.</summary>
    public IReadOnlyDictionary<string, string>? Labels { get; set; }

    /// <summary>Annotations.</summary>
    public IReadOnlyDictionary<string, string>? Annotations { get; set; }

    /// <summary>Who still has to act before the object may vanish.</summary>
    public IReadOnlyList<string>? Finalizers { get; set; }

    /// <summary>How many finalizers it has besides those in <see cref="Finalizers"/>: see <see cref="LeanMetadataAttribute"/>.</summary>
    [JsonIgnore]
    public int ForeignFinalizers { get; set; }

    /// <summary>How many of them stand before those in <see cref="Finalizers"/>.</summary>
    [JsonIgnore]
    public int ForeignFinalizersBefore { get; set; }

    /// <summary>Objects whose deletion takes this one along.</summary>
    public IReadOnlyList<V1OwnerReference>? OwnerReferences { get; set; }
}

/// <summary>An owner of an object, in the same namespace or cluster-scoped.</summary>
public sealed record V1OwnerReference
{
    /// <summary>Group and version of the owner.</summary>
    public string ApiVersion { get; set; } = "";

    /// <summary>Kind of the owner.</summary>
    public string Kind { get; set; } = "";

    /// <summary>Name of the owner.</summary>
    public string Name { get; set; } = "";

    /// <summary>UID of the owner.</summary>
    public string Uid { get; set; } = "";

    /// <summary>Whether this owner is the managing controller.</summary>
    public bool? Controller { get; set; }

    /// <summary>Whether foreground deletion of the owner waits for this object.</summary>
    public bool? BlockOwnerDeletion { get; set; }
}

/// <summary>Metadata of a list.</summary>
public sealed record V1ListMeta
{
    /// <summary>Version of the collection: where a watch continues.</summary>
    public string? ResourceVersion { get; set; }

    /// <summary>Token for the next page; absent on the last.</summary>
    public string? Continue { get; set; }

    /// <summary>How many items follow this page, when the server knows.</summary>
    public long? RemainingItemCount { get; set; }
}
