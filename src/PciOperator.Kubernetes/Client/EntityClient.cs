using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Prometheus;

namespace PciOperator.Kubernetes;

/// <summary>
/// A client of one API server; safe to use from many threads, meant to be shared. Inside a call, 429 and 503 with
/// Retry-After, failures to connect, and broken connections of idempotent calls are retried a few times.
/// </summary>
public class EntityClient : IEntityClient, IDisposable
{
    private const int DefaultPageSize = 500;
    private readonly ApiTransport _transport;
    private readonly TimeProvider _time;
    private readonly Random _random;
    private readonly string _fieldManager;

    /// <summary>Makes a client; nothing is sent yet.</summary>
    /// <param name="configuration">Which server, and as whom.</param>
    /// <param name="entityTypes">JSON metadata of the caller's own entities.</param>
    /// <param name="time">Clock for time limits and retries.</param>
    /// <param name="logger">Gets the server's warnings, and retries at debug level.</param>
    /// <param name="wrap">Puts a handler around every request; for tests that inject faults.</param>
    /// <param name="userAgent">How the server's audit log names the program; default: <c>pcioperator</c>.</param>
    /// <param name="fieldManager">Who owns fields that are written; default: the user agent's name.</param>
    /// <param name="metrics">Where <c>rest_client_*</c> go.</param>
    /// <param name="random">Spreads the length of watches; seeded in tests.</param>
    public EntityClient(
        KubernetesClientConfiguration configuration,
        IJsonTypeInfoResolver? entityTypes = null,
        TimeProvider? time = null,
        ILogger? logger = null,
        Func<HttpMessageHandler, HttpMessageHandler>? wrap = null,
        string? userAgent = null,
        string? fieldManager = null,
        CollectorRegistry? metrics = null,
        Random? random = null
    )
    {
        ArgumentNullException.ThrowIfNull(configuration);
        userAgent ??= "pcioperator";
        JsonOptions = EntityJson.OptionsWith(entityTypes);
        Configuration = configuration;
        _time = time ?? TimeProvider.System;
        _random = random ?? Random.Shared;
        _fieldManager = fieldManager ?? userAgent.Split('/')[0];
        _transport = new ApiTransport(configuration, _time, logger ?? NullLogger.Instance, wrap, userAgent, metrics);
    }

    /// <summary>What the client was made with.</summary>
    public KubernetesClientConfiguration Configuration { get; }

    /// <summary>The rights that its user lacks, by the server's refusals.</summary>
    public MissingRights Rights => _transport.Rights;

    /// <inheritdoc/>
    public JsonSerializerOptions JsonOptions { get; }

    /// <inheritdoc/>
    public async Task<T?> GetAsync<T>(string name, string? ns = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            var call = new ApiCall(HttpMethod.Get, EntityType<T>.ObjectPath(name, ns))
            {
                Right = ApiRight.Of<T>("get", ns),
                Idempotent = true,
            };
            return await CallAsync<T>(call, ct);
        }
        catch (ApiException e) when (e.IsNotFound)
        {
            return null;
        }
    }

    /// <inheritdoc/>
    public async Task<EntityList<T>> ListAsync<T>(string? ns = null, ListOptions? options = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        options ??= new ListOptions();
        // With version 0 the server answers from its cache, in one piece whatever the limit.
        ListOptions page = options.ResourceVersion == "0" ? options : options with { Limit = options.Limit ?? DefaultPageSize };
        EntityList<T> list = await ListPageAsync<T>(ns, page, ct);
        if (list.Metadata.ContinueProperty is null)
            return list;
        var items = new List<T>(list.Items);
        var unreadable = new List<UnreadableObject>(list.Unreadable);
        EntityList<T> first = list;
        while (list.Metadata.ContinueProperty is not null)
        {
            try
            {
                // The token carries the version; both together are refused.
                list = await ListPageAsync<T>(
                    ns,
                    page with
                    {
                        Continue = list.Metadata.ContinueProperty,
                        ResourceVersion = null,
                        ResourceVersionMatch = null,
                    },
                    ct
                );
            }
            catch (ApiException e) when (e.IsGone)
            {
                return await ListPageAsync<T>(ns, options with { Limit = null, Continue = null }, ct);
            }

            items.AddRange(list.Items);
            unreadable.AddRange(list.Unreadable);
        }

        return new EntityList<T>(items, first.Metadata.ResourceVersion) { Unreadable = unreadable };
    }

    /// <inheritdoc/>
    public async Task<EntityList<T>> ListPageAsync<T>(string? ns = null, ListOptions? options = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        Query query = ListQuery(options ?? new ListOptions());
        var call = new ApiCall(HttpMethod.Get, EntityType<T>.CollectionPath(ns) + query)
        {
            Right = ApiRight.Of<T>("list", ns),
            Idempotent = true,
            Verb = "LIST",
        };
        return await ReadAsync(call, (stream, token) => ListReader.ReadAsync<T>(stream, JsonOptions, token), ct);
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<WatchEvent<T>> WatchAsync<T>(
        string? ns = null,
        ListOptions? options = null,
        [EnumeratorCancellation] CancellationToken ct = default
    )
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        options ??= new ListOptions();
        int seconds = options.TimeoutSeconds ?? WatchSeconds();
        Query query = ListQuery(options with { Limit = null, Continue = null, ResourceVersionMatch = null })
            .Add("watch", "true")
            .Add("timeoutSeconds", seconds.ToString(CultureInfo.InvariantCulture))
            .Add("allowWatchBookmarks", options.AllowBookmarks ? "true" : null);
        var call = new ApiCall(HttpMethod.Get, EntityType<T>.CollectionPath(ns) + query)
        {
            Right = ApiRight.Of<T>("watch", ns),
            Verb = "WATCH",
            Accept = "application/json;stream=watch,application/json",
        };
        // The server ends the watch; one that outlives that by far hangs on a connection that is none any more.
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(seconds + 30.0), _time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(ct, limit.Token);
        using HttpResponseMessage response = await _transport.SendAsync(call, both.Token);
        await using Stream stream = await response.Content.ReadAsStreamAsync(both.Token);
        await using IAsyncEnumerator<WatchEvent<T>> events = WatchReader
            .ReadAsync<T>(stream, JsonOptions, both.Token)
            .GetAsyncEnumerator(both.Token);
        while (true)
        {
            try
            {
                if (!await events.MoveNextAsync())
                    yield break;
            }
            catch (Exception e) when (IsBroken(e, ct))
            {
                throw Broken(call, e);
            }

            yield return events.Current;
        }
    }

    /// <inheritdoc/>
    public Task<T> CreateAsync<T>(T obj, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        ArgumentNullException.ThrowIfNull(obj);
        EntityType<T>.RequireNamespace(obj.Metadata?.Name ?? obj.Metadata?.GenerateName, obj.Metadata?.NamespaceProperty);
        string? ns = obj.Metadata?.NamespaceProperty;
        return CallAsync<T>(WriteCall(HttpMethod.Post, EntityType<T>.CollectionPath(ns), ApiRight.Of<T>("create", ns), obj), ct);
    }

    /// <inheritdoc/>
    public Task<T> UpdateAsync<T>(T obj, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        ArgumentNullException.ThrowIfNull(obj);
        string? ns = obj.Metadata?.NamespaceProperty;
        return CallAsync<T>(
            WriteCall(HttpMethod.Put, EntityType<T>.ObjectPath(obj.Metadata?.Name, ns), ApiRight.Of<T>("update", ns), obj),
            ct
        );
    }

    /// <inheritdoc/>
    public Task<T> UpdateStatusAsync<T>(T obj, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        ArgumentNullException.ThrowIfNull(obj);
        string? ns = obj.Metadata?.NamespaceProperty;
        return CallAsync<T>(
            WriteCall(
                HttpMethod.Put,
                EntityType<T>.ObjectPath(obj.Metadata?.Name, ns, "status"),
                ApiRight.Of<T>("update", ns, "status"),
                obj
            ),
            ct
        );
    }

    /// <inheritdoc/>
    public Task<T> PatchAsync<T>(string name, string? ns, EntityPatch patch, string? subresource = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        ArgumentNullException.ThrowIfNull(patch);
        bool isApply = patch.ContentType == "application/apply-patch+yaml";
        Query query = new Query()
            .Add("fieldManager", patch.FieldManager ?? _fieldManager)
            .Add("force", patch.Force && isApply ? "true" : null)
            .Add("dryRun", patch.DryRun ? "All" : null);
        var call = new ApiCall(HttpMethod.Patch, EntityType<T>.ObjectPath(name, ns, subresource) + query)
        {
            Right = ApiRight.Of<T>("patch", ns, subresource),
            Body = patch.Body,
            ContentType = patch.ContentType,
            Idempotent = isApply,
        };
        return CallAsync<T>(call, ct);
    }

    /// <inheritdoc/>
    public Task<T> ApplyAsync<T>(T obj, string fieldManager, bool force = false, string? subresource = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        ArgumentNullException.ThrowIfNull(obj);
        byte[] body = Serialize(obj);
        return PatchAsync<T>(
            obj.Metadata?.Name ?? "",
            obj.Metadata?.NamespaceProperty,
            EntityPatch.Apply(body, fieldManager, force),
            subresource,
            ct
        );
    }

    /// <inheritdoc/>
    public async Task<bool> DeleteAsync<T>(string name, string? ns = null, DeleteOptions? options = null, CancellationToken ct = default)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        var call = new ApiCall(HttpMethod.Delete, EntityType<T>.ObjectPath(name, ns)) { Right = ApiRight.Of<T>("delete", ns) };
        if (options is not null)
        {
            var body = new V1DeleteOptions
            {
                Preconditions =
                    options.Uid is null && options.ResourceVersion is null
                        ? null
                        : new V1Preconditions { Uid = options.Uid, ResourceVersion = options.ResourceVersion },
                PropagationPolicy = options.PropagationPolicy,
                GracePeriodSeconds = options.GracePeriodSeconds,
                DryRun = options.DryRun ? ["All"] : null,
            };
            call = call with
            {
                Body = JsonSerializer.SerializeToUtf8Bytes(body, JsonOptions.TypeInfo<V1DeleteOptions>()),
                ContentType = "application/json",
            };
        }

        try
        {
            using HttpResponseMessage response = await _transport.SendAsync(call, ct);
            return true;
        }
        catch (ApiException e) when (e.IsNotFound)
        {
            return false;
        }
    }

    /// <inheritdoc/>
    public Task<JsonDocument> GetRawAsync(string path, CancellationToken ct = default) =>
        RawAsync(new ApiCall(HttpMethod.Get, path) { Idempotent = true }, ct);

    /// <inheritdoc/>
    public Task<JsonDocument> SendRawAsync(
        HttpMethod method,
        string path,
        ReadOnlyMemory<byte> body,
        string contentType = "application/json",
        CancellationToken ct = default
    )
    {
        ArgumentNullException.ThrowIfNull(method);
        return RawAsync(new ApiCall(method, path) { Body = body, ContentType = body.Length > 0 ? contentType : null }, ct);
    }

    /// <summary>Closes the connections; calls under way fail.</summary>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Closes the connections.</summary>
    protected virtual void Dispose(bool disposing)
    {
        if (disposing)
            _transport.Dispose();
    }

    private Task<JsonDocument> RawAsync(ApiCall call, CancellationToken ct) =>
        ReadAsync(call, (stream, token) => JsonDocument.ParseAsync(stream, cancellationToken: token), ct);

    private ApiCall WriteCall<T>(HttpMethod method, string path, ApiRight right, T obj)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        new(method, path + new Query().Add("fieldManager", _fieldManager))
        {
            Right = right,
            // Not pooled: an early answer can leave the body's sending under way.
            Body = Serialize(obj),
            ContentType = "application/json",
        };

    private byte[] Serialize<T>(T obj)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        JsonSerializer.SerializeToUtf8Bytes(EntityType<T>.WithKind(obj), JsonOptions.TypeInfo<T>());

    private async Task<T> CallAsync<T>(ApiCall call, CancellationToken ct)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        JsonTypeInfo<T> type = JsonOptions.TypeInfo<T>();
        T obj =
            await ReadAsync(call, (stream, token) => JsonSerializer.DeserializeAsync(stream, type, token).AsTask(), ct)
            ?? throw new JsonException($"The API server answered {call.Method} {call.Path} with null.");
        return EntityType<T>.WithKind(obj);
    }

    private async Task<TResult> ReadAsync<TResult>(ApiCall call, Func<Stream, CancellationToken, Task<TResult>> read, CancellationToken ct)
    {
        using HttpResponseMessage response = await _transport.SendAsync(call, ct);
        using var limit = new CancellationTokenSource(call.Timeout, _time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(ct, limit.Token);
        try
        {
            await using Stream stream = await response.Content.ReadAsStreamAsync(both.Token);
            return await read(stream, both.Token);
        }
        catch (JsonException e)
        {
            // It concerns this call alone, and whoever made it tries again as after any other failure.
            throw new HttpRequestException(
                HttpRequestError.InvalidResponse,
                $"{call.Verb} {call.Path}: the answer can't be read: {e.Message}",
                e
            );
        }
        catch (Exception e) when (IsBroken(e, ct))
        {
            throw Broken(call, e);
        }
    }

    private static bool IsBroken(Exception e, CancellationToken ct) =>
        e is IOException || (e is OperationCanceledException && !ct.IsCancellationRequested);

    private static HttpRequestException Broken(ApiCall call, Exception e) =>
        new(HttpRequestError.ResponseEnded, $"{call.Verb} {call.Path}: the answer broke off: {e.Cause()}", e);

    private int WatchSeconds()
    {
        // Random itself is not safe to share.
        lock (_random)
            return _random.Next(300, 600);
    }

    private static Query ListQuery(ListOptions options) =>
        new Query()
            .Add("labelSelector", options.LabelSelector)
            .Add("fieldSelector", options.FieldSelector)
            .Add("limit", options.Limit?.ToString(CultureInfo.InvariantCulture))
            .Add("continue", options.Continue)
            .Add("resourceVersion", options.ResourceVersion)
            .Add("resourceVersionMatch", options.ResourceVersionMatch);

    private sealed class Query
    {
        private readonly StringBuilder _text = new();

        public Query Add(string name, string? value)
        {
            if (!string.IsNullOrEmpty(value))
                _text.Append(_text.Length == 0 ? '?' : '&').Append(name).Append('=').Append(Uri.EscapeDataString(value));
            return this;
        }

        public static string operator +(string path, Query query) => path + query._text;
    }
}
