using System.Text.Json;
using k8s;
using k8s.Models;

namespace PciOperator.Kubernetes;

/// <summary>
/// The Kubernetes API, typed. <c>T</c> is a model with <see cref="KubernetesEntityAttribute"/>. A namespace is null for
/// cluster-scoped kinds and, in lists and watches, for all namespaces. Failures are <see cref="ApiException"/>
/// when the server answered, <see cref="HttpRequestException"/> when it could not be reached.
/// </summary>
public interface IEntityClient
{
    /// <summary>The JSON options that entities are read and written with.</summary>
    JsonSerializerOptions JsonOptions { get; }

    /// <summary>One object, or null when there is none (404).</summary>
    Task<T?> GetAsync<T>(string name, string? ns = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>All objects, page by page (<see cref="ListOptions.Limit"/> each, 500 when absent); when the server forgets
    /// the list's version in between (410), they are read once more in one piece.</summary>
    Task<EntityList<T>> ListAsync<T>(string? ns = null, ListOptions? options = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>One page; the continue token in its metadata leads to the next.</summary>
    Task<EntityList<T>> ListPageAsync<T>(string? ns = null, ListOptions? options = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>Changes after <see cref="ListOptions.ResourceVersion"/>, until the server ends the watch (which is ordinary),
    /// the connection breaks, or <paramref name="ct"/> is cancelled.</summary>
    /// <exception cref="ApiException">The server refused, or sent an ERROR event; <see cref="ApiException.IsGone"/> when the version is too
    /// old.</exception>
    IAsyncEnumerable<WatchEvent<T>> WatchAsync<T>(string? ns = null, ListOptions? options = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>Makes an object; its answer has what the server added.</summary>
    Task<T> CreateAsync<T>(T obj, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>Replaces an object (PUT). With a <c>resourceVersion</c> in it, a change in between is a conflict (409).</summary>
    Task<T> UpdateAsync<T>(T obj, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>Replaces an object's status (PUT on the subresource); nothing but status and metadata can change by it.</summary>
    Task<T> UpdateStatusAsync<T>(T obj, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>Patches an object or one of its subresources, e.g. <c>status</c>.</summary>
    Task<T> PatchAsync<T>(string name, string? ns, EntityPatch patch, string? subresource = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>Server-side apply: the fields in <paramref name="obj"/> are made so and owned by <paramref name="fieldManager"/>;
    /// owned fields that are absent are removed. Without <paramref name="force"/> a field of another manager is a conflict.</summary>
    Task<T> ApplyAsync<T>(T obj, string fieldManager, bool force = false, string? subresource = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>Asks for deletion. False when there is no such object.</summary>
    Task<bool> DeleteAsync<T>(string name, string? ns = null, DeleteOptions? options = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>;

    /// <summary>The JSON at a path, e.g. <c>/version</c> or <c>/apis</c>.</summary>
    Task<JsonDocument> GetRawAsync(string path, CancellationToken ct = default);

    /// <summary>Any call, for objects without a model; the path has the query.</summary>
    Task<JsonDocument> SendRawAsync(
        HttpMethod method,
        string path,
        ReadOnlyMemory<byte> body,
        string contentType = "application/json",
        CancellationToken ct = default
    );
}
