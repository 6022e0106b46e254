using System.Text.Json;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>Odd objects against the sandbox's API server.</summary>
public sealed class SandboxOddObjectTests : OddObjectTests
{
    protected override bool Real => false;
}

/// <summary>The same against a real one.</summary>
[Turns(6)]
public sealed class RealOddObjectTests : OddObjectTests
{
    protected override bool Real => true;
}

/// <summary>What tenants and others put into objects neither stops the product nor is lost by it.</summary>
public abstract class OddObjectTests
{
    private const string OddTime = "0000-01-01T00:00:00Z";

    protected abstract bool Real { get; }

    [TurnFact]
    public async Task Others_are_served_while_a_claim_a_PciNode_and_a_spec_have_times_that_only_the_server_reads()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(Real)).WithNodesAsync(2);
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("first", "a1:1");
        await lab.ReadyAsync("first");
        var odd = EntityPatch.Merge(
            $$"""{"status":{"conditions":[{"type":"Odd","status":"True","reason":"Odd","message":"odd","lastTransitionTime":"{{OddTime}}"}]} }"""
        );
        await lab.Client.PatchAsync<PassthroughClaim>("first", "default", odd, "status");
        await lab.Client.PatchAsync<PciNode>("node-2", null, odd, "status");
        foreach (PciDeviceSpec spec in (await lab.Client.ListAsync<PciDeviceSpec>()).Items)
            await lab.Client.PatchAsync<PciDeviceSpec>(spec.Metadata.Name!, null, odd, "status");

        // With an agent and a controller that have to list all of it as well.
        lab.Cluster.StartController();
        await lab.ClaimAsync("second", "a1:1");
        await lab.ReadyAsync("second");
        await lab.ReadyAsync("first");
        await lab.DeleteAsync("first");
        await lab.GoneAsync("first");
    }

    [TurnFact]
    public async Task Finalizers_of_others_stay_as_they_are()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(Real)).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        using JsonDocument made = await lab.Client.SendRawAsync(
            HttpMethod.Post,
            Path(""),
            """
            {"apiVersion":"pcioperator.io/v1alpha1","kind":"PassthroughClaim","metadata":{"name":"kept","labels":{"a":"b"},"finalizers":["tenant.example/a","tenant.example/b"]},
             "spec":{"requests":[{"name":"r","alias":"a1"}]}}
            """u8.ToArray()
        );
        await lab.ReadyAsync("kept");
        Assert.Equal(["tenant.example/a", "tenant.example/b", PciOperatorApi.ClaimFinalizer], await FinalizersAsync(lab));

        // Ours in the middle, as after somebody else has added one.
        var middle = EntityPatch.Merge("""{"metadata":{"finalizers":["tenant.example/b","pcioperator.io/release","tenant.example/c"]}}""");
        await lab.Client.PatchAsync<PassthroughClaim>("kept", "default", middle);
        await lab.DeleteAsync("kept");
        await lab.UntilAsync("its release", async () => await FinalizersAsync(lab), f => !f.Contains(PciOperatorApi.ClaimFinalizer));
        Assert.Equal(["tenant.example/b", "tenant.example/c"], await FinalizersAsync(lab));
        await lab.Client.PatchAsync<PassthroughClaim>("kept", "default", EntityPatch.Merge("""{"metadata":{"finalizers":null}}"""));
        await lab.GoneAsync("kept");
    }

    private static string Path(string name) => $"/apis/pcioperator.io/v1alpha1/namespaces/default/passthroughclaims{name}";

    private static async Task<IReadOnlyList<string>> FinalizersAsync(LabCluster lab)
    {
        using JsonDocument claim = await lab.Client.GetRawAsync(Path("/kept"));
        JsonElement metadata = claim.RootElement.GetProperty("metadata");
        Assert.Equal("b", metadata.GetProperty("labels").GetProperty("a").GetString());
        return metadata.TryGetProperty("finalizers", out JsonElement finalizers) && finalizers.ValueKind == JsonValueKind.Array
            ? [.. finalizers.EnumerateArray().Select(f => f.GetString()!)]
            : [];
    }
}
