using k8s;
using k8s.Models;

namespace PciOperator.Kubernetes;

/// <summary>Names an object within its kind.</summary>
/// <param name="Namespace">Null for cluster-scoped objects.</param>
/// <param name="Name">Its name.</param>
public readonly record struct EntityKey(string? Namespace, string Name)
{
    /// <summary>The key of an object.</summary>
    public static EntityKey Of(IKubernetesObject<V1ObjectMeta> obj) =>
        new(string.IsNullOrEmpty(obj.Metadata.NamespaceProperty) ? null : obj.Metadata.NamespaceProperty, obj.Metadata.Name ?? "");

    /// <summary><c>namespace/name</c>, or just the name.</summary>
    public override string ToString() => Namespace is null ? Name : $"{Namespace}/{Name}";
}

/// <summary>Brings the world in line with an entity. Level-triggered: it is called with the newest state that the cache
/// has, as often as needed, never twice at a time for one entity.</summary>
public interface IEntityController<TEntity>
{
    /// <summary>The entity is there (it may have a deletion timestamp). An exception means: try again later, with backoff.</summary>
    Task<ReconciliationResult> ReconcileAsync(TEntity entity, CancellationToken ct);

    /// <summary>The entity is gone; given is its last known state.</summary>
    Task DeletedAsync(TEntity entity, CancellationToken ct);
}

/// <summary>Whether an entity is to be looked at again without a change.</summary>
public readonly record struct ReconciliationResult
{
    /// <summary>Not before it changes.</summary>
    public static ReconciliationResult Done => default;

    /// <summary>Again after a while.</summary>
    public static ReconciliationResult After(TimeSpan delay) => new() { RequeueAfter = delay };

    /// <summary>Again, with growing delays, as after an error but without one.</summary>
    public static ReconciliationResult Retry => new() { Requeue = true };

    /// <summary>Not before somebody asks for it, who will; backoff goes on where it was.</summary>
    public static ReconciliationResult Parked => new() { IsParked = true };

    /// <summary>When again; null: by <see cref="Requeue"/>.</summary>
    public TimeSpan? RequeueAfter { get; private init; }

    /// <summary>Whether to come back with backoff.</summary>
    public bool Requeue { get; private init; }

    /// <summary>Whether somebody will ask for it, and nothing was found out about it.</summary>
    public bool IsParked { get; private init; }
}
