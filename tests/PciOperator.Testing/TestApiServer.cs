using System.Text.Json.Serialization.Metadata;
using k8s;
using Microsoft.Extensions.Logging;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.ApiServer;

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

    /// <summary>A client as administrator.</summary>
    public EntityClient Client(
        IJsonTypeInfoResolver? entityTypes = null,
        Func<HttpMessageHandler, HttpMessageHandler>? wrap = null,
        TimeProvider? time = null,
        ILogger? logger = null,
        string? fieldManager = null) =>
        new(Configuration, entityTypes, time, logger, wrap, userAgent: "pcioperator-tests", fieldManager: fieldManager);

    /// <summary>The sandbox's API server, in this process.</summary>
    public static async Task<TestApiServer> SandboxAsync(SandboxApiServerOptions? options = null)
    {
        var server = await SandboxApiServer.StartAsync(options);
        return new TestApiServer("sandbox", server.KubeconfigText, server.DisposeAsync) { Sandbox = server };
    }

    /// <summary>A real API server, as the environment says (<see cref="RealServer"/>).</summary>
    /// <remarks>Where the environment names none the test is skipped (<see cref="Requirement"/>).</remarks>
    /// <exception cref="InvalidOperationException">It does not start; the message has its log's end.</exception>
    public static async Task<TestApiServer> RealAsync()
    {
        if (RealServer.Binary is { } binary)
        {
            var server = await ApiServerBinary.StartAsync(binary);
            return new TestApiServer(binary, server.KubeconfigText, server.DisposeAsync);
        }

        if (RealServer.KubebuilderAssets is { } assets)
        {
            var server = await KubebuilderApiServer.StartAsync(assets);
            return new TestApiServer(assets, server.KubeconfigText, server.DisposeAsync);
        }

        if (RealServer.Kubeconfig is { } path)
            return new TestApiServer(path, await File.ReadAllTextAsync(path), () => ValueTask.CompletedTask);
        Requirement.IsMissing(RealServer.HowTo);
        return null;
    }

    /// <summary>A real API server whose etcd a test can put back to an earlier state.</summary>
    /// <remarks>Where the environment names no binary that starts one the test is skipped (<see cref="Requirement"/>).</remarks>
    /// <exception cref="InvalidOperationException">It does not start; the message has its log's end.</exception>
    public static async Task<(TestApiServer Server, RestorableServer Restore)> RestorableAsync()
    {
        if (RealServer.Binary is null)
            Requirement.IsMissing(RestorableServer.HowTo);
        var server = await RestorableServer.StartAsync(RealServer.Binary);
        return (new TestApiServer(RealServer.Binary, server.KubeconfigText, server.DisposeAsync), server);
    }

    public ValueTask DisposeAsync() => _stop();
}

/// <summary>One real API server for all tests of an assembly: a collection fixture. Tests keep apart by namespaces and names.</summary>
public sealed class RealServerFixture : IAsyncLifetime
{
    private TestApiServer? _server;

    /// <summary>The server; where there is none the test is skipped (<see cref="Requirement"/>).</summary>
    public TestApiServer Server
    {
        get
        {
            if (_server is null)
                Requirement.IsMissing(RealServer.HowTo);
            return _server;
        }
    }

    public async ValueTask InitializeAsync()
    {
        if (RealServer.IsConfigured)
            _server = await TestApiServer.RealAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (_server is not null)
            await _server.DisposeAsync();
    }
}

/// <summary>One sandbox API server for all tests of an assembly, with bookmarks every second.</summary>
public sealed class SandboxServerFixture : IAsyncLifetime
{
    private TestApiServer? _server;

    /// <summary>The server.</summary>
    public TestApiServer Server => _server ?? throw new InvalidOperationException("The sandbox's server was not started.");

    public async ValueTask InitializeAsync() =>
        _server = await TestApiServer.SandboxAsync(new SandboxApiServerOptions { BookmarkInterval = TimeSpan.FromSeconds(1) });

    public async ValueTask DisposeAsync()
    {
        if (_server is not null)
            await _server.DisposeAsync();
    }
}
