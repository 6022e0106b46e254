using System.Text;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.ApiServer;
using PciOperator.Sandbox.Validation;
using PciOperator.Testing;

namespace PciOperator.Api.Tests;

/// <summary>An API server that knows our kinds: a class fixture.</summary>
public abstract class OwnKindsServer(Func<Task<TestApiServer>> start) : ServerFixture(start)
{
    private EntityClient? _client;

    /// <summary>A client as administrator.</summary>
    public EntityClient Client => _client ??= Server.Client(PciOperatorJsonContext.Default);

    public override async ValueTask InitializeAsync()
    {
        await base.InitializeAsync();
        if (IsThere)
            await InstallAsync();
    }

    public override async ValueTask DisposeAsync()
    {
        _client?.Dispose();
        await base.DisposeAsync();
    }

    protected abstract Task InstallAsync();
}

/// <summary>The sandbox's, with the CRDs and rules compiled in.</summary>
public sealed class SandboxOwnKindsServer()
    : OwnKindsServer(() =>
        TestApiServer.SandboxAsync(new SandboxApiServerOptions { Crds = SandboxCrds.All, Validators = OwnResourceRules.Validators })
    )
{
    protected override Task InstallAsync() => Task.CompletedTask;
}

/// <summary>A real one, with the CRDs applied.</summary>
public sealed class RealOwnKindsServer() : AppliedKindsServer(TestApiServer.RealAsync);

/// <summary>k3s, with the CRDs applied.</summary>
public sealed class K3sOwnKindsServer() : AppliedKindsServer(TestApiServer.K3sAsync);

/// <summary>One that has to be given the CRDs.</summary>
public abstract class AppliedKindsServer(Func<Task<TestApiServer>> start) : OwnKindsServer(start)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    protected override async Task InstallAsync()
    {
        foreach (Manifest manifest in SandboxCrds.All.SelectMany(Manifest.Parse))
        {
            string path =
                $"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{manifest.Name}?fieldManager=tests&force=true&fieldValidation=Strict";
            using (await Client.SendRawAsync(HttpMethod.Patch, path, Encoding.UTF8.GetBytes(manifest.Yaml), "application/apply-patch+yaml"))
            { }

            await ServedAsync(Client, manifest);
        }
    }

    private static async Task ServedAsync(EntityClient client, Manifest manifest)
    {
        using var limit = new CancellationTokenSource(Patience);
        while (true)
        {
            try
            {
                using System.Text.Json.JsonDocument list = await client.GetRawAsync(
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
