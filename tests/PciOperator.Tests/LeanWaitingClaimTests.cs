using System.Collections.Concurrent;
using System.Net;
using System.Text;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Core;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>What the controller writes for a claim that waits for a pod, and in which order.</summary>
[Turns(8)]
public sealed class LeanWaitingClaimTests
{
    private static readonly TimeSpan Never = TimeSpan.FromMinutes(10);

    [TurnFact]
    public async Task A_claim_whose_pod_is_there_is_written_one_status_which_names_the_node_before_the_scheduler_is_answered()
    {
        var calls = new ConcurrentQueue<string>();
        await using DeliveryLab lab = await DeliveryLab.StartAsync(
            2,
            options: o => o with { StepDelay = Never },
            wrap: inner => new Recorder(inner, calls)
        );
        PassthroughClaim claim = await WaitingAsync(lab);
        await OfferedAsync(lab, claim, 2);
        int offered = calls.Count;
        await lab.AllocateAsync("vm", "node-1", "launcher");
        claim = await lab.SaysAsync("vm", Conditions.Ready, "True", "Ready");
        await lab.UntilAsync("the scheduler to be answered", () => lab.ResourceAsync("vm"), r => r.Status?.Devices is { Count: > 0 });
        await lab.UntilAsync("the offer to be of one node", () => lab.SliceAsync(claim), s => ResourceObjects.Hostnames(s).Count == 0);

        Assert.Equal("node-1", claim.Status!.NodeName);
        Assert.True(claim.Status.Conditions.IsTrue(Conditions.InUse));
        // Until the nodes have reported it may have been said that none fits.
        string[] of = [.. calls.Skip(offered).Where(c => c is "PUT passthroughclaims/status" or "PATCH resourceclaims/status")];
        Assert.Equal(["PUT passthroughclaims/status", "PATCH resourceclaims/status"], of);
        Assert.Equal(1, calls.Count(c => c == "PATCH passthroughclaims"));
        Assert.Equal(1, calls.Skip(offered).Count(c => c == "PUT resourceslices"));
        Assert.Equal(1, calls.Count(c => c == "POST resourceslices"));
        Assert.Equal(1, calls.Count(c => c == "POST resourceclaims"));
    }

    [TurnFact]
    public async Task What_takes_longer_is_said()
    {
        HoldingState state = HoldingState.Preparing;
        await using DeliveryLab lab = await DeliveryLab.StartAsync(2, l => l.Agent = (_, _) => (state, null));
        PassthroughClaim claim = await WaitingAsync(lab);
        await lab.SaysAsync("vm", Conditions.Scheduled, "False", "WaitForFirstConsumer");
        await OfferedAsync(lab, claim, 2);
        await lab.AllocateAsync("vm", "node-2", "launcher");
        claim = await lab.SaysAsync("vm", Conditions.Prepared, "False", "Preparing");
        Assert.Equal(("node-2", ClaimPhase.Claimed), (claim.Status!.NodeName, claim.Status.Phase));
        state = HoldingState.Prepared;
        await lab.SaysAsync("vm", Conditions.Ready, "True", "Ready");
    }

    [TurnFact]
    public async Task A_node_that_refuses_before_anything_was_said_of_it_is_said()
    {
        await using DeliveryLab lab = await DeliveryLab.StartAsync(
            1,
            l => l.Agent = (_, _) => (HoldingState.Rejected, "GuardRefused"),
            o => o with { StepDelay = Never }
        );
        PassthroughClaim claim = await WaitingAsync(lab);
        await OfferedAsync(lab, claim, 1);
        await lab.AllocateAsync("vm", "node-1", "launcher");
        claim = await lab.UntilAsync("the refusal", () => lab.GetAsync("vm"), c => c.Status?.Refusals is { Count: > 0 });
        Assert.Equal("node-1", claim.Status!.Refusals![0].NodeName);
    }

    [TurnFact]
    public async Task A_claim_that_others_are_tied_to_names_its_node_at_once()
    {
        await using DeliveryLab lab = await DeliveryLab.StartAsync(
            2,
            l => l.Agent = (_, _) => (HoldingState.Preparing, null),
            o => o with { StepDelay = Never }
        );
        PassthroughClaim claim = await WaitingAsync(lab);
        await lab.ClaimAsync(
            "disk",
            configure: s =>
            {
                s.BindingMode = BindingMode.WaitForFirstConsumer;
                s.CoLocateWith = ["vm"];
            }
        );
        await OfferedAsync(lab, claim, 2);
        await lab.AllocateAsync("vm", "node-2", "launcher");
        await lab.UntilAsync("the claim to name its node", () => lab.GetAsync("vm"), c => c.Status?.NodeName == "node-2");
    }

    /// <summary>
    /// A controller that was killed between its answer and the offer of one node leaves an offer of several, by which the next pod may be given
    /// another node.
    /// </summary>
    [TurnFact]
    public async Task Another_node_than_the_claim_has_is_refused_only_after_it_is_no_longer_offered()
    {
        var calls = new ConcurrentQueue<string>();
        int fail = 0;
        await using DeliveryLab lab = await DeliveryLab.StartAsync(
            2,
            wrap: inner => new Recorder(inner, calls, c => c == "PUT resourceslices" && Volatile.Read(ref fail) == 1)
        );
        PassthroughClaim claim = await WaitingAsync(lab);
        await OfferedAsync(lab, claim, 2);
        Volatile.Write(ref fail, 1);
        await lab.AllocateAsync("vm", "node-1", "launcher");
        await lab.UntilAsync("node-1 to be bound", () => lab.ResourceAsync("vm"), r => r.Status?.Devices is { Count: > 0 });
        await lab.DeallocateAsync("vm");
        Assert.Equal(2, ResourceObjects.Hostnames((await lab.SliceAsync(claim))!).Count);
        calls.Clear();
        await lab.AllocateAsync("vm", "node-2", "next");
        await lab.UntilAsync("the controller to try", () => lab.GetAsync("vm"), _ => calls.Contains("PUT resourceslices"));
        Volatile.Write(ref fail, 0);
        Resourcev1ResourceClaim resource = await lab.UntilAsync(
            "the refusal",
            () => lab.ResourceAsync("vm"),
            r => r.Status?.Devices is { Count: > 0 }
        );
        Assert.Equal("OnOtherNode", resource.Status.Devices[0].Conditions[0].Reason);
        Assert.Empty(ResourceObjects.Hostnames((await lab.SliceAsync(claim))!));
        string[] order = [.. calls.Where(c => c is "PUT resourceslices" or "PATCH resourceclaims/status")];
        Assert.Equal("PATCH resourceclaims/status", order[^1]);
        Assert.Equal(1, order.Count(c => c == "PATCH resourceclaims/status"));
    }

    private static async Task<PassthroughClaim> WaitingAsync(DeliveryLab lab) =>
        await lab.ClaimAsync("vm", configure: s => s.BindingMode = BindingMode.WaitForFirstConsumer);

    private static Task<V1ResourceSlice> OfferedAsync(DeliveryLab lab, PassthroughClaim claim, int nodes) =>
        lab.UntilAsync($"{nodes} nodes to be offered", () => lab.SliceAsync(claim), s => ResourceObjects.Hostnames(s).Count == nodes);

    /// <summary>Writes what was asked, by verb and resource, and answers some of it with an error.</summary>
    private sealed class Recorder(HttpMessageHandler inner, ConcurrentQueue<string> calls, Func<string, bool>? fails = null)
        : DelegatingHandler(inner)
    {
        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            string[] path = request.RequestUri!.AbsolutePath.Trim('/').Split('/');
            List<string> rest = [.. path.Skip(path[0] == "api" ? 2 : 3)];
            if (rest is ["namespaces", _, _, ..])
                rest = rest[2..];
            string name = $"{request.Method} {rest.FirstOrDefault()}{(rest.Count > 2 ? "/" + rest[2] : "")}";
            if (request.Method != HttpMethod.Get)
                calls.Enqueue(name);
            if (fails?.Invoke(name) != true)
                return await base.SendAsync(request, cancellationToken);
            return new HttpResponseMessage(HttpStatusCode.InternalServerError)
            {
                Content = new StringContent(
                    """{"kind":"Status","apiVersion":"v1","status":"Failure","code":500,"reason":"InternalError"}""",
                    Encoding.UTF8,
                    "application/json"
                ),
            };
        }
    }
}
