using System.Text;
using System.Text.Json;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.ApiServer;
using PciOperator.Sandbox.Validation;
using PciOperator.Testing;

namespace PciOperator.Api.Tests;

/// <summary>An API server that knows our kinds: a class fixture.</summary>
public abstract class OwnKindsServer : IAsyncLifetime
{
    private TestApiServer? _server;
    private EntityClient? _client;

    /// <summary>A client as administrator.</summary>
    public EntityClient Client => _client ?? throw new InvalidOperationException(RealServer.HowTo);

    public async Task InitializeAsync()
    {
        _server = await StartAsync();
        if (_server is null)
            return;
        _client = _server.Client(PciOperatorJsonContext.Default);
        await InstallAsync(_client);
    }

    public async Task DisposeAsync()
    {
        _client?.Dispose();
        if (_server is not null)
            await _server.DisposeAsync();
    }

    protected abstract Task<TestApiServer?> StartAsync();

    protected abstract Task InstallAsync(EntityClient client);
}

/// <summary>The sandbox's, with the CRDs and rules compiled in.</summary>
public sealed class SandboxOwnKindsServer : OwnKindsServer
{
    protected override async Task<TestApiServer?> StartAsync() =>
        await TestApiServer.SandboxAsync(new SandboxApiServerOptions { Crds = SandboxCrds.All, Validators = OwnResourceRules.Validators });

    protected override Task InstallAsync(EntityClient client) => Task.CompletedTask;
}

/// <summary>A real one, with the CRDs applied.</summary>
public sealed class RealOwnKindsServer : OwnKindsServer
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    // Fixtures are made even when all their tests are skipped.
    protected override async Task<TestApiServer?> StartAsync() => RealServer.IsConfigured ? await TestApiServer.RealAsync() : null;

    protected override async Task InstallAsync(EntityClient client)
    {
        foreach (Manifest? manifest in SandboxCrds.All.SelectMany(Manifest.Parse))
        {
            string path =
                $"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{manifest.Name}?fieldManager=tests&force=true&fieldValidation=Strict";
            using (await client.SendRawAsync(HttpMethod.Patch, path, Encoding.UTF8.GetBytes(manifest.Yaml), "application/apply-patch+yaml"))
            { }
            await ServedAsync(client, manifest);
        }
    }

    private static async Task ServedAsync(EntityClient client, Manifest manifest)
    {
        using var limit = new CancellationTokenSource(Patience);
        while (true)
        {
            try
            {
                using JsonDocument list = await client.GetRawAsync(
                    $"/apis/{PciOperatorApi.GroupVersion}/{manifest.Name.Split('.')[0]}",
                    limit.Token
                );
                return;
            }
            catch (ApiException e) when (e.IsNotFound && !limit.IsCancellationRequested)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(50), limit.Token);
            }
        }
    }
}
