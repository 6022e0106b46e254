namespace PciOperator.Kubernetes;

/// <summary>What a <see cref="WatchCache{T}"/> noticed.</summary>
public enum WatchCacheChangeKind
{
    /// <summary>An object that was not there before.</summary>
    Added,

    /// <summary>A newer state of an object.</summary>
    Updated,

    /// <summary>An object is gone.</summary>
    Deleted,
}

/// <summary>A change in a <see cref="WatchCache{T}"/>. An object that was deleted and made again under the same name is
/// <see cref="WatchCacheChangeKind.Deleted"/>, then <see cref="WatchCacheChangeKind.Added"/>, even if the watch missed it.</summary>
/// <param name="Kind">What happened.</param>
/// <param name="Old">The state before; null when added.</param>
/// <param name="New">The state after; null when deleted.</param>
public readonly record struct WatchCacheChange<T>(WatchCacheChangeKind Kind, T? Old, T? New)
    where T : class;
