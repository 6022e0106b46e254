using System.Text;
using PciOperator.Host;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Kubelet.Tests;

/// <summary>A pod gets the devices of its claim through the kubelet, and gives them back.</summary>
public sealed class PrepareTests
{
    [Fact]
    public async Task A_card_of_four_functions_reaches_a_container_that_reads_its_address_as_the_launcher_does()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Gpu);
        PreparedAnswer answer = await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        Assert.Equal(["gpu", "gpu-companion-0", "gpu-companion-1", "gpu-companion-2"], answer.Devices.Select(d => d.Request));
        Assert.All(answer.Devices, d => Assert.Equal("claim-u-vm", d.Pool));
        ContainerDouble container = lab.Container(answer);
        int group = lab.Simulated.Find(KubeletLab.Gpu[0])!.Group!.Value;
        Assert.Equal(
            ["/dev/iommu", $"/dev/vfio/{group}", "/dev/vfio/vfio"],
            container.Nodes.Where(n => !n.Contains("devices", StringComparison.Ordinal)).Order(StringComparer.Ordinal)
        );
        Assert.Equal(4, container.Nodes.Count(n => n.StartsWith("/dev/vfio/devices/vfio", StringComparison.Ordinal)));
        for (int i = 0; i < 4; i++)
            Assert.Equal(KubeletLab.Gpu[i], container.AddressOf("vm", answer.Devices[i].Request));
        Assert.All(container.Mounts, m => Assert.Equal(["ro", "bind"], m.Options));
        Assert.Contains("u-vm", lab.Plugin.Delivered);
        Assert.Equal("", await lab.Kubelet.EndPodAsync(KubeletLab.Driver, claim));
        Assert.Empty(lab.Written);
        Assert.Empty(lab.Plugin.Delivered);
    }

    [Fact]
    public async Task Where_the_kernel_has_no_iommufd_a_container_gets_the_group_alone()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        lab.Simulated.SetIommufd(false);
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Igb);
        ContainerDouble container = lab.Container(await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim));
        Assert.Equal(["/dev/vfio/vfio", $"/dev/vfio/{lab.Simulated.Find(KubeletLab.Igb)!.Group}"], container.Nodes);
    }

    [Fact]
    public async Task A_templates_claim_is_found_by_what_the_pod_calls_it()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        OfferedClaim offer = lab.Give("pool-0-x7k2p", KubeletLab.Igb);
        await lab.BindAsync("pool-0-x7k2p", KubeletLab.Igb);
        PodClaim claim = lab.Allocate(offer, change: c => c with { PodClaimName = "g" });
        ContainerDouble container = lab.Container(await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim));
        Assert.Equal(KubeletLab.Igb, container.AddressOfTemplate("g", "gpu"));
        Assert.Contains(
            "\"podClaimName\":\"g\"",
            Text(lab, "/k/plugins/pcioperator.io/dra-device-metadata/lab_pool-0-x7k2p/gpu/metadata.json"),
            StringComparison.Ordinal
        );
    }

    [Fact]
    public async Task The_files_are_those_of_the_documented_shape_byte_for_byte()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        lab.Simulated.SetIommufd(false);
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Igb);
        PreparedAnswer answer = await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        int group = lab.Simulated.Find(KubeletLab.Igb)!.Group!.Value;
        Assert.Equal(
            """{"kind":"DeviceMetadata","apiVersion":"metadata.resource.k8s.io/v1alpha1","metadata":{"name":"vm","namespace":"lab","uid":"5f1c-vm","generation":1},"requests":[{"name":"gpu","devices":[{"driver":"pcioperator.io","pool":"claim-u-vm","name":"gpu","attributes":{"resource.kubernetes.io/numaNode":{"int":0},"resource.kubernetes.io/pciBusID":{"string":"0000:21:00.0"},"resource.kubernetes.io/pcieRoot":{"string":"pci0000:20"}}}]}]}"""
                + "\n",
            Text(lab, "/k/plugins/pcioperator.io/dra-device-metadata/lab_vm/gpu/metadata.json")
        );
        Assert.Equal(
            """{"cdiVersion":"0.5.0","kind":"pcioperator.io/metadata","devices":[{"name":"5f1c-vm_gpu","containerEdits":{"mounts":[{"hostPath":"/k/plugins/pcioperator.io/dra-device-metadata/lab_vm/gpu/metadata.json","containerPath":"/var/run/kubernetes.io/dra-device-attributes/resourceclaims/vm/gpu/pcioperator.io-metadata.json","options":["ro","bind"]}]}}]}""",
            Text(lab, "/var/run/cdi/pcioperator.io_metadata_5f1c-vm_gpu.json")
        );
        Assert.Equal(
            $$$$"""{"cdiVersion":"0.3.0","kind":"pcioperator.io/claim","devices":[{"name":"claim-5f1c-vm-gpu","containerEdits":{"deviceNodes":[{"path":"/dev/vfio/vfio","permissions":"rwm"},{"path":"/dev/vfio/{{{{group}}}}","permissions":"rwm"}]}}]}""",
            Text(lab, "/var/run/cdi/pcioperator.io_claim_5f1c-vm.json")
        );
        Assert.Equal(["pcioperator.io/claim=claim-5f1c-vm-gpu", "pcioperator.io/metadata=5f1c-vm_gpu"], answer.Devices.Single().CdiIds);
    }

    [Fact]
    public async Task Asked_again_it_is_the_same_answer_and_nothing_is_written()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Gpu);
        PreparedAnswer first = (await lab.Kubelet.PrepareAsync(KubeletLab.Driver, claim))[claim.Uid];
        int changes = 0;
        lab.Simulated.Fault = a => changes += a.IsChange ? 1 : 0;
        PreparedAnswer again = (await lab.Kubelet.PrepareAsync(KubeletLab.Driver, claim))[claim.Uid];
        Assert.Equal(Words(first), Words(again));
        Assert.Equal(0, changes);
    }

    [Fact]
    public async Task A_file_that_somebody_removed_is_there_again_when_it_is_asked_for()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Igb);
        await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        IReadOnlyList<string> written = lab.Written;
        foreach (string path in written.Where(p => !p.Contains("resource-claims", StringComparison.Ordinal)))
            lab.Simulated.RemoveFile(path);
        Assert.Equal("", (await lab.Kubelet.PrepareAsync(KubeletLab.Driver, claim))[claim.Uid].Error);
        Assert.Equal(written, lab.Written);
    }

    [Fact]
    public async Task Each_claim_of_a_question_is_answered_by_itself()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim good = await lab.ClaimAsync("good", KubeletLab.Igb);
        var missing = new PodClaim("lab", "missing", "5f1c-missing");
        var unsafeName = new PodClaim("lab", "../../etc", "../x");
        IReadOnlyDictionary<string, PreparedAnswer> answers = await lab.Kubelet.PrepareAsync(KubeletLab.Driver, good, missing, unsafeName);
        Assert.Equal("", answers[good.Uid].Error);
        Assert.Contains("there is no ResourceClaim lab/missing", answers[missing.Uid].Error, StringComparison.Ordinal);
        Assert.Contains("is no ResourceClaim's", answers[unsafeName.Uid].Error, StringComparison.Ordinal);
        IReadOnlyDictionary<string, string> back = await lab.Kubelet.UnprepareAsync(KubeletLab.Driver, good, missing);
        Assert.All(back.Values, error => Assert.Equal("", error));
        Assert.Empty(lab.Written);
    }

    [Fact]
    public async Task One_claims_write_that_hangs_holds_up_no_other_and_is_joined_when_it_is_asked_for_again()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        await lab.StopPluginAsync();
        lab.Options = lab.Options with { Deadline = TimeSpan.FromMilliseconds(500) };
        lab.StartPlugin();
        await lab.Kubelet.WaitForPluginAsync(KubeletLab.Driver);
        PodClaim slow = await lab.ClaimAsync("slow", KubeletLab.Igb);
        PodClaim quick = await lab.ClaimAsync("quick", KubeletLab.X520);
        using var go = new ManualResetEventSlim();
        lab.Simulated.Fault = a =>
        {
            if (a is { Before: true, Operation: SimulatedOperation.WriteDurably } && a.Path.Contains("slow", StringComparison.Ordinal))
                go.Wait();
        };
        IReadOnlyDictionary<string, PreparedAnswer> answers = await lab.Kubelet.PrepareAsync(KubeletLab.Driver, slow, quick);
        Assert.Equal("", answers[quick.Uid].Error);
        Assert.Contains("it goes on", answers[slow.Uid].Error, StringComparison.Ordinal);
        go.Set();
        Assert.Equal("", (await lab.Kubelet.StartPodInTheEndAsync(KubeletLab.Driver, slow)).Error);
    }

    [Fact]
    public async Task Devices_that_are_still_being_bound_are_waited_for()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = lab.Allocate(lab.Give("vm", KubeletLab.Igb));
        Task<PreparedAnswer> answer = lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        await KubeletDouble.UntilAsync(() => lab.Kubelet.Calls.Count == 1, "nothing was asked");
        Assert.Empty(lab.Written);
        await lab.BindAsync("vm", KubeletLab.Igb);
        lab.Container(await answer);
    }

    [Fact]
    public async Task A_claim_that_is_given_back_while_it_waits_is_not_handed_out_afterwards()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = lab.Allocate(lab.Give("vm", KubeletLab.Igb));
        int read = 0;
        lab.Node.Reading = (_, _) =>
        {
            Interlocked.Increment(ref read);
            return Task.CompletedTask;
        };
        Task<IReadOnlyDictionary<string, PreparedAnswer>> waiting = lab.Kubelet.PrepareAsync(KubeletLab.Driver, claim);
        await KubeletDouble.UntilAsync(() => Volatile.Read(ref read) > 0, "the claim was not read");
        Assert.Equal("", await lab.Kubelet.EndPodAsync(KubeletLab.Driver, claim));
        Assert.NotEqual("", (await waiting)[claim.Uid].Error);
        await lab.BindAsync("vm", KubeletLab.Igb);
        Assert.Empty(lab.Written);
    }

    [Fact]
    public async Task A_claim_is_given_back_when_its_object_is_gone_and_when_it_was_never_prepared()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Igb);
        await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        lab.Node.Claims.Clear();
        lab.Node.Given!.Clear();
        Assert.Equal("", await lab.Kubelet.EndPodAsync(KubeletLab.Driver, claim));
        Assert.Equal("", await lab.Kubelet.EndPodAsync(KubeletLab.Driver, claim));
        Assert.Equal("", await lab.Kubelet.EndPodAsync(KubeletLab.Driver, new PodClaim("lab", "never", "5f1c-never")));
        Assert.Empty(lab.Written);
    }

    [Fact]
    public async Task A_claim_that_is_withdrawn_is_handed_out_no_more_and_given_back_without_an_error()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Gpu);
        await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        lab.Node.Given!.Clear();
        await lab.Plugin.WithdrawAsync("u-vm", default);
        Assert.Empty(lab.Written);
        Assert.Contains(
            "no PassthroughClaim's that has its devices on this node",
            (await lab.Kubelet.PrepareAsync(KubeletLab.Driver, claim))[claim.Uid].Error,
            StringComparison.Ordinal
        );
        Assert.Equal("", await lab.Kubelet.EndPodAsync(KubeletLab.Driver, claim));
        Assert.Empty(lab.Written);
    }

    [Fact]
    public async Task What_an_earlier_agent_could_not_take_back_is_taken_back_by_the_next()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Igb);
        PodClaim kept = await lab.ClaimAsync("kept", KubeletLab.X520);
        await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        await lab.Kubelet.StartPodAsync(KubeletLab.Driver, kept);
        await lab.Plugin.WithdrawAllButAsync(new HashSet<string> { "u-kept" }, default);
        Assert.DoesNotContain(lab.Written, p => p.Contains("vm", StringComparison.Ordinal));
        Assert.Contains(lab.Written, p => p.Contains("kept", StringComparison.Ordinal));
    }

    [Fact]
    public async Task When_the_files_can_not_be_removed_devices_are_not_given_up()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Igb);
        await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        lab.Simulated.Fault = a =>
        {
            if (a is { Before: true, Operation: SimulatedOperation.Delete })
                throw new HostIoException("delete", a.Path, Errnos.EIO);
        };
        await Assert.ThrowsAsync<HostIoException>(() => lab.Plugin.WithdrawAsync("u-vm", default));
        Assert.Contains("u-vm", lab.Plugin.Delivered);
        Assert.Contains("EIO", await lab.Kubelet.EndPodAsync(KubeletLab.Driver, claim), StringComparison.Ordinal);
        lab.Simulated.Fault = null;
        await lab.Plugin.WithdrawAsync("u-vm", default);
        Assert.Empty(lab.Written);
    }

    [Fact]
    public async Task The_kubelet_hears_how_the_devices_are()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        await lab.ClaimAsync("vm", KubeletLab.Igb);
        lab.Plugin.NodeChanged();
        await KubeletDouble.UntilAsync(() => lab.Kubelet.Health.Contains(("claim-u-vm", "gpu", "Healthy")), "no word of the device");
        lab.Simulated.Remove(KubeletLab.Igb);
        lab.Host.Scan();
        await KubeletDouble.UntilAsync(() => lab.Kubelet.Health.Contains(("claim-u-vm", "gpu", "Unhealthy")), "it is still healthy");
    }

    private static string Text(KubeletLab lab, string path) => Encoding.UTF8.GetString(lab.Simulated.Files.ReadBytes(path, 1 << 20) ?? []);

    private static string Words(PreparedAnswer answer) =>
        $"{answer.Error}{string.Join(';', answer.Devices.Select(d => $"{d.Request} {d.Pool} {d.Device} {string.Join(' ', d.CdiIds)}"))}";
}
