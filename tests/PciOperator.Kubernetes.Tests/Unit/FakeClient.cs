using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Threading.Channels;
using k8s;
using k8s.Models;

namespace PciOperator.Kubernetes.Tests.Unit;

/// <summary>A client of which every call fails unless a test's own fake overrides it.</summary>
internal abstract class FakeClient : IEntityClient
{
    public JsonSerializerOptions JsonOptions => EntityJson.Options;

    public virtual Task<T?> GetAsync<T>(string name, string? ns = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta> => throw Unexpected();

    public virtual Task<EntityList<T>> ListAsync<T>(string? ns = null, ListOptions? options = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta> => throw Unexpected();

    public virtual Task<EntityList<T>> ListPageAsync<T>(string? ns = null, ListOptions? options = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta> => throw Unexpected();

    public virtual IAsyncEnumerable<WatchEvent<T>> WatchAsync<T>(
        string? ns = null,
        ListOptions? options = null,
        CancellationToken ct = default
    )
        where T : class, IKubernetesObject<V1ObjectMeta> => throw Unexpected();

    public virtual Task<T> CreateAsync<T>(T obj, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta> => throw Unexpected();

    public virtual Task<T> UpdateAsync<T>(T obj, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta> => throw Unexpected();

    public virtual Task<T> UpdateStatusAsync<T>(T obj, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta> => throw Unexpected();

    public virtual Task<T> PatchAsync<T>(
        string name,
        string? ns,
        EntityPatch patch,
        string? subresource = null,
        CancellationToken ct = default
    )
        where T : class, IKubernetesObject<V1ObjectMeta> => throw Unexpected();

    public virtual Task<T> ApplyAsync<T>(
        T obj,
        string fieldManager,
        bool force = false,
        string? subresource = null,
        CancellationToken ct = default
    )
        where T : class, IKubernetesObject<V1ObjectMeta> => throw Unexpected();

    public virtual Task<bool> DeleteAsync<T>(string name, string? ns = null, DeleteOptions? options = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta> => throw Unexpected();

    public virtual Task<JsonDocument> GetRawAsync(string path, CancellationToken ct = default) => throw Unexpected();

    public virtual Task<JsonDocument> SendRawAsync(
        HttpMethod method,
        string path,
        ReadOnlyMemory<byte> body,
        string contentType = "application/json",
        CancellationToken ct = default
    ) => throw Unexpected();

    public static ApiException Error(int code, string reason) =>
        new(
            (System.Net.HttpStatusCode)code,
            new V1Status
            {
                Code = code,
                Reason = reason,
                Message = $"{code} {reason}",
            }
        );

    private static InvalidOperationException Unexpected([CallerMemberName] string call = "") => new($"{call} was not expected.");
}

/// <summary>A server of config maps that says exactly what a test tells it to.</summary>
internal sealed class ScriptedServer : FakeClient
{
    private readonly Channel<object> _lists = Channel.CreateUnbounded<object>();
    private readonly Channel<ScriptedWatch> _watches = Channel.CreateUnbounded<ScriptedWatch>();

    public static V1ConfigMap Map(string name, int version, string? uid = null, string? data = null) =>
        new()
        {
            Metadata = new V1ObjectMeta
            {
                Name = name,
                NamespaceProperty = "ns",
                Uid = uid ?? $"uid-{name}",
                ResourceVersion = version.ToString(),
            },
            Data = data is null ? null : new Dictionary<string, string> { ["d"] = data },
        };

    public void NextList(int version, params V1ConfigMap[] items) =>
        _lists.Writer.TryWrite(new EntityList<V1ConfigMap>(items, version.ToString()));

    public void NextList(EntityList<V1ConfigMap> list) => _lists.Writer.TryWrite(list);

    public void NextList(Exception error) => _lists.Writer.TryWrite(error);

    /// <summary>The next watch that the cache opens.</summary>
    public Task<ScriptedWatch> WatchOpenedAsync() => _watches.Reader.ReadAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(30));

    public override async Task<EntityList<T>> ListAsync<T>(string? ns = null, ListOptions? options = null, CancellationToken ct = default)
    {
        object next = await _lists.Reader.ReadAsync(ct);
        return next is Exception error ? throw error : (EntityList<T>)next;
    }

    public override async IAsyncEnumerable<WatchEvent<T>> WatchAsync<T>(
        string? ns = null,
        ListOptions? options = null,
        [EnumeratorCancellation] CancellationToken ct = default
    )
    {
        var watch = new ScriptedWatch(options!.ResourceVersion!);
        _watches.Writer.TryWrite(watch);
        while (await watch.Script.Reader.WaitToReadAsync(ct))
        {
            while (watch.Script.Reader.TryRead(out object? next))
                yield return next is Exception error ? throw error : (WatchEvent<T>)next;
        }
    }
}

/// <summary>One watch, as a test feeds it.</summary>
internal sealed class ScriptedWatch(string from)
{
    public string From { get; } = from;

    public Channel<object> Script { get; } = Channel.CreateUnbounded<object>();

    public void Send(WatchEventType type, V1ConfigMap map) =>
        Script.Writer.TryWrite(new WatchEvent<V1ConfigMap>(type, map, map.Metadata.ResourceVersion!));

    public void Unreadable(WatchEventType type, UnreadableObject obj) =>
        Script.Writer.TryWrite(new WatchEvent<V1ConfigMap>(type, null, obj.ResourceVersion!) { Unreadable = obj });

    public void Bookmark(int version) =>
        Script.Writer.TryWrite(new WatchEvent<V1ConfigMap>(WatchEventType.Bookmark, null, version.ToString()));

    public void Fail(Exception error) => Script.Writer.TryWrite(error);

    public void End() => Script.Writer.TryComplete();
}
