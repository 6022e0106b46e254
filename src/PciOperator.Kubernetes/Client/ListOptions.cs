using k8s;
using k8s.Models;

namespace PciOperator.Kubernetes;

/// <summary>What to list or watch.</summary>
public sealed record ListOptions
{
    /// <summary>E.g. <c>app=agent,tier in (a,b)</c>.</summary>
    public string? LabelSelector { get; init; }

    /// <summary>E.g. <c>metadata.name=n1</c>, or a field that the CRD names in <c>selectableFields</c>.</summary>
    public string? FieldSelector { get; init; }

    /// <summary>Objects per page.</summary>
    public int? Limit { get; init; }

    /// <summary>Token of the next page, from <see cref="KubernetesList{T}.Metadata"/>.</summary>
    public string? Continue { get; init; }

    /// <summary>List: at least (or, by <see cref="ResourceVersionMatch"/>, exactly) as new as this; absent: the newest.
    /// Watch: changes after it; absent: all objects first, then changes.</summary>
    public string? ResourceVersion { get; init; }

    /// <summary><c>NotOlderThan</c> or <c>Exact</c>.</summary>
    public string? ResourceVersionMatch { get; init; }

    /// <summary>Watch: ask for bookmarks, which move the version on while nothing changes.</summary>
    public bool AllowBookmarks { get; init; } = true;

    /// <summary>Watch: after how long the server ends it; absent: random, 5 to 10 minutes.</summary>
    public int? TimeoutSeconds { get; init; }
}

/// <summary>The library's list, with what it has and can't be read.</summary>
/// <param name="items">Objects.</param>
/// <param name="metadata">The version of the collection that they are from, and the token of the next page.</param>
public sealed class EntityList<T>(IList<T> items, V1ListMeta metadata) : KubernetesList<T>(items, metadata: metadata)
    where T : class, IKubernetesObject<V1ObjectMeta>
{
    /// <summary>A list in one piece.</summary>
    public EntityList(IList<T> items, string resourceVersion)
        : this(items, new V1ListMeta { ResourceVersion = resourceVersion }) { }

    /// <summary>Objects that the list has too, and that can't be read here.</summary>
    public IReadOnlyList<UnreadableObject> Unreadable { get; init; } = [];
}

/// <summary>What happened to an object.</summary>
public enum WatchEventType
{
    /// <summary>It was made, or began to match the selector.</summary>
    Added,

    /// <summary>It was changed.</summary>
    Modified,

    /// <summary>It is gone, or no longer matches the selector.</summary>
    Deleted,

    /// <summary>Nothing happened up to this version.</summary>
    Bookmark,
}

/// <summary>One event of a watch.</summary>
/// <param name="Type">What happened.</param>
/// <param name="Object">The object: after the change, or its last state when deleted; null for a bookmark, and when it can't be
/// read.</param>
/// <param name="ResourceVersion">Where a later watch can go on from.</param>
#pragma warning disable CA1720 // "Object" is the API's own word
public readonly record struct WatchEvent<T>(WatchEventType Type, T? Object, string ResourceVersion)
#pragma warning restore CA1720
    where T : class
{
    /// <summary>What is known of an object that can't be read; then <see cref="Object"/> is null.</summary>
    public UnreadableObject? Unreadable { get; init; }
}

/// <summary>How to delete.</summary>
public sealed record DeleteOptions
{
    /// <summary>Only the object with this UID; another of the same name is a conflict (409).</summary>
    public string? Uid { get; init; }

    /// <summary>Only in this version.</summary>
    public string? ResourceVersion { get; init; }

    /// <summary><c>Background</c>, <c>Foreground</c> or <c>Orphan</c>; absent: the server's choice for the kind.</summary>
    public string? PropagationPolicy { get; init; }

    /// <summary>Seconds of grace, for pods; 0: at once.</summary>
    public long? GracePeriodSeconds { get; init; }

    /// <summary>Check, but delete nothing.</summary>
    public bool DryRun { get; init; }
}
