#pragma warning disable CS1591, CA1822, IDE0060, CS0067, CA1063, CA1816, CS9113, CA2213
using System.Buffers;
using System.Net;
using Microsoft.Extensions.Logging;
using PciOperator.Kubernetes.Models;
namespace PciOperator.Kubernetes;

public enum WatchCacheChangeKind { Added, Updated, Deleted }
public readonly record struct WatchCacheChange<T>(WatchCacheChangeKind Kind, T? Old, T? New) where T : class;

public sealed class WatchCache<T>(IKubernetesClient client, string? ns = null, ListOptions? options = null, TimeProvider? time = null, ILogger? logger = null, MetricsRegistry? metrics = null, int? seed = null) : IAsyncDisposable
    where T : class, IKubernetesObject<V1ObjectMeta>
{
    public void AddIndex(string name, Func<T, IEnumerable<string>> keys) => throw new NotImplementedException();
    public void OnChange(Action<WatchCacheChange<T>> handler) => throw new NotImplementedException();
    public Task RunAsync(CancellationToken ct) => throw new NotImplementedException();
    public Task WaitForSyncAsync(CancellationToken ct = default) => throw new NotImplementedException();
    public bool HasSynced => throw new NotImplementedException();
    public T? Get(string name, string? ns = null) => throw new NotImplementedException();
    public IReadOnlyCollection<T> List() => throw new NotImplementedException();
    public IReadOnlyCollection<T> ByIndex(string index, string key) => throw new NotImplementedException();
    public void Observe(T written) => throw new NotImplementedException();
    public long Version => throw new NotImplementedException();
    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}

public sealed class WorkQueue<TKey>(string name, TimeProvider? time = null, MetricsRegistry? metrics = null) : IDisposable where TKey : notnull
{
    public void Add(TKey key) => throw new NotImplementedException();
    public void AddAfter(TKey key, TimeSpan delay) => throw new NotImplementedException();
    public void AddRateLimited(TKey key) => throw new NotImplementedException();
    public void Forget(TKey key) => throw new NotImplementedException();
    /// <summary>Throws OperationCanceledException when cancelled or shut down.</summary>
    public ValueTask<TKey> GetAsync(CancellationToken ct = default) => throw new NotImplementedException();
    public void Done(TKey key) => throw new NotImplementedException();
    public void ShutDown() => throw new NotImplementedException();
    public int Count => throw new NotImplementedException();
    public void Dispose() { }
}

public sealed class ControllerLoop<TEntity>(string name, WatchCache<TEntity> cache, IEntityController<TEntity> controller, WorkQueue<EntityKey>? queue = null, int workers = 1, ILogger? logger = null, MetricsRegistry? metrics = null, TimeProvider? time = null)
    where TEntity : class, IKubernetesObject<V1ObjectMeta>
{
    public void Enqueue(EntityKey key) => throw new NotImplementedException();
    public Task RunAsync(CancellationToken ct) => throw new NotImplementedException();
}

public sealed record LeaseLock
{
    public required string Namespace { get; init; }
    public required string Name { get; init; }
    public required string Identity { get; init; }
    public TimeSpan LeaseDuration { get; init; } = TimeSpan.FromSeconds(15);
    public TimeSpan RenewDeadline { get; init; } = TimeSpan.FromSeconds(10);
    public TimeSpan RetryPeriod { get; init; } = TimeSpan.FromSeconds(2);
}

public sealed class LeaderElector(IKubernetesClient client, LeaseLock @lock, TimeProvider? time = null, ILogger? logger = null, MetricsRegistry? metrics = null)
{
    public bool IsLeader => throw new NotImplementedException();
    public Task RunAsync(Func<CancellationToken, Task> lead, CancellationToken ct) => throw new NotImplementedException();
}

public sealed class EventRecorder(IKubernetesClient client, string reportingController, string reportingInstance, TimeProvider? time = null, ILogger? logger = null) : IAsyncDisposable
{
    public void Normal(IKubernetesObject<V1ObjectMeta> regarding, string reason, string note, string action = "Reconcile") => throw new NotImplementedException();
    public void Warning(IKubernetesObject<V1ObjectMeta> regarding, string reason, string note, string action = "Reconcile") => throw new NotImplementedException();
    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}

public sealed class MetricsRegistry
{
    public Counter Counter(string name, string help, params string[] labels) => throw new NotImplementedException();
    public Gauge Gauge(string name, string help, params string[] labels) => throw new NotImplementedException();
    public Histogram Histogram(string name, string help, IReadOnlyList<double>? buckets = null, params string[] labels) => throw new NotImplementedException();
    public void AddProcessMetrics() => throw new NotImplementedException();
    public void WriteTo(IBufferWriter<byte> output) => throw new NotImplementedException();
}
public sealed class Counter { public void Inc(params ReadOnlySpan<string> labels) { } public void Add(double amount, params ReadOnlySpan<string> labels) { } }
public sealed class Gauge { public void Set(double value, params ReadOnlySpan<string> labels) { } public void Add(double amount, params ReadOnlySpan<string> labels) { } }
public sealed class Histogram { public void Observe(double value, params ReadOnlySpan<string> labels) { } }

public sealed record HealthServerOptions { public IPAddress Address { get; init; } = IPAddress.Any; public int Port { get; init; } = 8080; }
public sealed class HealthServer(HealthServerOptions options, MetricsRegistry metrics, ILogger? logger = null) : IAsyncDisposable
{
    /// <summary>A check gives null when well, else the reason.</summary>
    public void AddLivenessCheck(string name, Func<string?> check) => throw new NotImplementedException();
    public void AddReadinessCheck(string name, Func<string?> check) => throw new NotImplementedException();
    public Task StartAsync(CancellationToken ct = default) => throw new NotImplementedException();
    public Task StopAsync(CancellationToken ct = default) => throw new NotImplementedException();
    public int Port => throw new NotImplementedException();
    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
public enum LogFormat { Json, Text }
public static class KubernetesLogging { public static ILoggerFactory Create(LogLevel level = LogLevel.Information, LogFormat format = LogFormat.Json) => throw new NotImplementedException(); }
