using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>Against the sandbox's API server.</summary>
public sealed class SandboxOneTimeUseTests : OneTimeUseTests
{
    protected override Task<LabCluster> StartAsync(bool controller) => LabCluster.StartAsync(real: false, controller);
}

/// <summary>Against a real one, with the service accounts' rights alone.</summary>
[Turns(6)]
public sealed class InstalledOneTimeUseTests : OneTimeUseTests
{
    protected override Task<LabCluster> StartAsync(bool controller) => LabCluster.StartAsync(real: true, controller, installed: true);
}

/// <summary>A device of one-time use, its one owner, and the administrator who frees it.</summary>
public abstract class OneTimeUseTests
{
    private const string Node = "node-1";

    protected abstract Task<LabCluster> StartAsync(bool controller);

    [TurnFact]
    public async Task A_device_that_was_used_once_is_withheld_until_an_administrator_frees_it()
    {
        await using LabCluster lab = await WithOneTimeDriveAsync();
        await lab.ClaimAsync("first", "nvme:1");
        string drive = (await lab.ReadyAsync("first")).Status!.Devices![0].Address;
        await lab.ClaimAsync("second", "nvme:1");
        await lab.PendingAsync("second", "none free");

        await lab.DeleteAsync("first");
        await lab.GoneAsync("first");
        string command = $"kubectl annotate pcinode {Node} {PciOperatorApi.FreeAnnotation}={drive}";
        PciNodeDevice withheld = await WithheldAsync(lab, drive);
        Assert.Equal(DeviceState.Unavailable, withheld.State);
        Assert.Contains(command, withheld.Reason, StringComparison.Ordinal);
        PassthroughClaim waiting = await lab.PendingAsync("second", "Not offered: 1 (UsedOnce); the PciNodes say why.");
        Assert.DoesNotContain(drive, waiting.Status!.Conditions.Find(Conditions.Scheduled)!.Message, StringComparison.Ordinal);

        await AnnotateAsync(lab, $" {drive} ,not-an-address");
        await lab.ReadyAsync("second");
        await AnnotationGoneAsync(lab);
        await EventAsync(lab, "Freed", drive);

        // Freed once: after its second owner it is withheld again.
        await lab.DeleteAsync("second");
        await lab.GoneAsync("second");
        await WithheldAsync(lab, drive);
    }

    [TurnFact]
    public async Task Freeing_what_a_claim_has_frees_nothing_and_says_so()
    {
        await using LabCluster lab = await WithOneTimeDriveAsync();
        await lab.ClaimAsync("first", "nvme:1");
        string drive = (await lab.ReadyAsync("first")).Status!.Devices![0].Address;
        await AnnotateAsync(lab, drive);
        await AnnotationGoneAsync(lab);
        await lab.DeleteAsync("first");
        await lab.GoneAsync("first");
        await WithheldAsync(lab, drive);
    }

    [TurnFact]
    public async Task A_name_that_stays_on_the_PciNode_frees_once()
    {
        await using LabCluster lab = await StartAsync(controller: false);
        Func<Task> stop = lab.Cluster.StartController(LabCluster.Quick);
        await PrepareNodesAsync(lab);
        await lab.ClaimAsync("first", "nvme:1");
        string drive = (await lab.ReadyAsync("first")).Status!.Devices![0].Address;

        // Nobody removes the annotation for now: it is there before the mark is, and the mark stays, also over a restart of the agent.
        await stop();
        await AnnotateAsync(lab, drive);
        await EventAsync(lab, "NothingToFree", drive);
        await lab.Client.PatchAsync<PciNode>(Node, null, EntityPatch.Json("""[{"op":"replace","path":"/spec/assignments","value":[]}]"""));
        await WithheldAsync(lab, drive);
        await lab.Cluster.Nodes[Node].StopAgentAsync();
        await lab.Cluster.Nodes[Node].StartAgentAsync();
        await lab.UntilAsync(
            "the agent to be back",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status?.ObservedGeneration == n.Metadata.Generation
        );
        lab.Host(Node).Change(lab.Host(Node).Functions[0].Address, _ => { });
        await Task.Delay(300);
        await WithheldAsync(lab, drive);

        await lab.Client.PatchAsync<PciNode>(
            Node,
            null,
            EntityPatch.Merge("""{"metadata":{"annotations":{"pcioperator.io/free":null}}}""")
        );
        await Task.Delay(300);
        await AnnotateAsync(lab, drive);
        await lab.UntilAsync(
            "the drive to be free",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status!.Devices!.Any(d => d.Address == drive && d.State == DeviceState.Available)
        );
    }

    private async Task<LabCluster> WithOneTimeDriveAsync()
    {
        LabCluster lab = await StartAsync(controller: true);
        await PrepareNodesAsync(lab);
        return lab;
    }

    private static async Task PrepareNodesAsync(LabCluster lab)
    {
        await lab.WithNodesAsync(1);
        await lab.WithSamplesAsync();
        await lab.Client.PatchAsync<PciDeviceSpec>("nvme-p4500", null, EntityPatch.Merge("""{"spec":{"oneTimeUse":true}}"""));
        await lab.UntilAsync(
            "the rule to change",
            () => lab.Client.GetAsync<PciNode>(Node),
            n =>
                n.Spec.Rules!.Any(r => r is { Name: "nvme-p4500", OneTimeUse: true })
                && n.Status!.ObservedGeneration == n.Metadata.Generation
        );
    }

    private static Task<PciNode> AnnotateAsync(LabCluster lab, string value) =>
        lab.Client.PatchAsync<PciNode>(
            Node,
            null,
            EntityPatch.Merge(
                """{"metadata":{"annotations":{"pcioperator.io/free":"VALUE"}}}""".Replace("VALUE", value, StringComparison.Ordinal)
            )
        );

    private static Task AnnotationGoneAsync(LabCluster lab) =>
        lab.UntilAsync(
            "the annotation to be removed",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Metadata.Annotations?.ContainsKey(PciOperatorApi.FreeAnnotation) != true
        );

    private static async Task<PciNodeDevice> WithheldAsync(LabCluster lab, string drive)
    {
        PciNode node = await lab.UntilAsync(
            $"{drive} to be withheld",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status!.Devices!.Any(d => d.Address == drive && d.WithheldBy == WithheldWords.UsedOnce)
        );
        return node.Status!.Devices!.Single(d => d.Address == drive);
    }

    private static Task EventAsync(LabCluster lab, string reason, string says) =>
        lab.UntilAsync(
            $"event {reason}",
            async () =>
                (await lab.Client.ListAsync<Eventsv1Event>()).Items.FirstOrDefault(e =>
                    e.Reason == reason && e.Note?.Contains(says, StringComparison.Ordinal) == true
                ),
            _ => true
        );
}
