using System.Runtime.ExceptionServices;
using System.Text.Json.Serialization.Metadata;
using k8s;
using Microsoft.Extensions.Logging;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.ApiServer;
using Xunit.Sdk;

namespace PciOperator.Testing;

/// <summary>An API server for tests: the sandbox's own, in process, or a real one.</summary>
public sealed class TestApiServer : IAsyncDisposable
{
    private readonly Func<ValueTask> _stop;

    private TestApiServer(string name, string kubeconfigText, Func<ValueTask> stop)
    {
        Name = name;
        KubeconfigText = kubeconfigText;
        Configuration = ClusterAccess.FromKubeconfigText(kubeconfigText);
        _stop = stop;
    }

    /// <summary>What it is, for messages.</summary>
    public string Name { get; }

    /// <summary>A kubeconfig of its administrator.</summary>
    public string KubeconfigText { get; }

    public KubernetesClientConfiguration Configuration { get; }

    /// <summary>The sandbox's, when it is that.</summary>
    public SandboxApiServer? Sandbox { get; private init; }

    /// <summary>
    /// Whether it is the test API server in one binary, however it was started: it takes a service account's name for its token, and stores
    /// built-in resources as they are written.
    /// </summary>
    public bool IsTestBinary { get; private init; }

    /// <summary>A client as administrator.</summary>
    public EntityClient Client(
        IJsonTypeInfoResolver? entityTypes = null,
        Func<HttpMessageHandler, HttpMessageHandler>? wrap = null,
        TimeProvider? time = null,
        ILogger? logger = null,
        string? fieldManager = null
    ) => new(Configuration, entityTypes, time, logger, wrap, userAgent: "pcioperator-tests", fieldManager: fieldManager);

    /// <summary>The sandbox's API server, in this process.</summary>
    public static async Task<TestApiServer> SandboxAsync(SandboxApiServerOptions? options = null)
    {
        SandboxApiServer server = await SandboxApiServer.StartAsync(options);
        return new TestApiServer("sandbox", server.KubeconfigText, server.DisposeAsync) { Sandbox = server };
    }

    /// <summary>A real API server, as the environment says (<see cref="RealServer"/>).</summary>
    /// <remarks>Where the environment names none the test is skipped (<see cref="Requirement"/>).</remarks>
    /// <exception cref="InvalidOperationException">It does not start; the message has its log's end.</exception>
    public static async Task<TestApiServer> RealAsync()
    {
        if (RealServer.Binary is { } binary)
        {
            ApiServerBinary server = await ApiServerBinary.StartAsync(binary);
            return new TestApiServer(binary, server.KubeconfigText, server.DisposeAsync) { IsTestBinary = true };
        }

        if (RealServer.KubebuilderAssets is { } assets)
        {
            KubebuilderApiServer server = await KubebuilderApiServer.StartAsync(assets);
            return new TestApiServer(assets, server.KubeconfigText, server.DisposeAsync);
        }

        if (RealServer.Kubeconfig is { } path)
            return new TestApiServer(path, await File.ReadAllTextAsync(path), () => ValueTask.CompletedTask);
        Requirement.IsMissing(RealServer.HowTo);
        return null;
    }

    /// <summary>k3s in a container.</summary>
    /// <remarks>Where there is no engine or no image the test is skipped.</remarks>
    /// <exception cref="InvalidOperationException">It does not start; the message has its log's end.</exception>
    public static async Task<TestApiServer> K3sAsync()
    {
        K3sServer server = await K3sServer.StartAsync();
        return new TestApiServer("k3s", server.KubeconfigText, server.DisposeAsync) { IsTestBinary = server.IsTestBinary };
    }

    /// <summary>A real API server whose etcd a test can put back to an earlier state.</summary>
    /// <remarks>Where the environment names no binary that starts one the test is skipped (<see cref="Requirement"/>).</remarks>
    /// <exception cref="InvalidOperationException">It does not start; the message has its log's end.</exception>
    public static async Task<(TestApiServer Server, RestorableServer Restore)> RestorableAsync()
    {
        if (RealServer.Binary is null)
            Requirement.IsMissing(RestorableServer.HowTo);
        RestorableServer server = await RestorableServer.StartAsync(RealServer.Binary);
        return (new TestApiServer(RealServer.Binary, server.KubeconfigText, server.DisposeAsync) { IsTestBinary = true }, server);
    }

    public ValueTask DisposeAsync() => _stop();
}

/// <summary>
/// One API server for several tests, which keep apart by namespaces and names. Where there is none, the tests that ask for it are skipped.
/// </summary>
/// <param name="start">Starts it.</param>
public abstract class ServerFixture(Func<Task<TestApiServer>> start) : IAsyncLifetime
{
    private TestApiServer? _server;
    private ExceptionDispatchInfo? _missing;

    /// <summary>The server.</summary>
    public TestApiServer Server
    {
        get
        {
            // A fixture can't be skipped: its tests are.
            _missing?.Throw();
            return _server!;
        }
    }

    /// <summary>Whether there is one.</summary>
    protected bool IsThere => _server is not null;

    public virtual async ValueTask InitializeAsync()
    {
        try
        {
            _server = await start();
        }
        catch (SkipException skip)
        {
            _missing = ExceptionDispatchInfo.Capture(skip);
        }
    }

    public virtual async ValueTask DisposeAsync()
    {
        if (_server is not null)
            await _server.DisposeAsync();
    }
}

/// <summary>A real API server, as the environment says.</summary>
public sealed class RealServerFixture() : ServerFixture(TestApiServer.RealAsync);

/// <summary>k3s in a container.</summary>
public sealed class K3sServerFixture() : ServerFixture(TestApiServer.K3sAsync);

/// <summary>The sandbox's API server, with bookmarks every second.</summary>
public sealed class SandboxServerFixture()
    : ServerFixture(() => TestApiServer.SandboxAsync(new SandboxApiServerOptions { BookmarkInterval = TimeSpan.FromSeconds(1) }));
