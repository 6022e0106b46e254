using System.Diagnostics;
using System.Text.Json.Nodes;
using PciOperator.Testing;

namespace PciOperator.Kubelet.Tests;

/// <summary>The plugins and a gRPC stack that is not ours, both directions: Debian's python3-grpcio as the kubelet.</summary>
public sealed class InteropTests
{
    private const string Resource = "pcioperator.io/lab.vm";

    [Fact]
    public async Task A_kubelet_on_another_stack_finds_the_plugins_asks_them_and_is_asked()
    {
        string python = (await PythonAsync())!;
        await using var lab = new KubeletLab();
        foreach (string folder in new[] { "plugins_registry", "device-plugins", "pod-resources" })
            Directory.CreateDirectory($"{lab.Root}/k/{folder}");
        await lab.ClaimAsync("vm", KubeletLab.Igb);
        lab.StartPlugin();
        await KubeletDouble.UntilAsync(
            () => lab.Plugin.Status.Reason == "NotRegistered" && File.Exists($"{lab.Root}/k/plugins_registry/pcioperator.io-reg.sock"),
            "it is not served"
        );

        var start = new ProcessStartInfo(
            python,
            [Path.Combine(AppContext.BaseDirectory, "Interop", "kubelet.py"), lab.Root, "lab", "vm", "5f1c-vm", Resource]
        )
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process kubelet = Process.Start(start)!;
        Task<string> errors = kubelet.StandardError.ReadToEndAsync();
        try
        {
            JsonNode dra = await SaidAsync(kubelet, errors);
            Assert.Equal(
                """{"type":["DRAPlugin"],"name":["pcioperator.io"],"endpoint":["/k/plugins/pcioperator.io/dra.sock"],"versions":["v1.DRAPlugin","v1beta1.DRAPlugin","v1alpha1.DRAResourceHealth"]}""",
                dra["info"]!.ToJsonString()
            );
            foreach (string version in new[] { "v1", "v1beta1" })
            {
                Assert.Equal(
                    """[{"uid":["5f1c-vm"],"devices":[{"requests":["gpu"],"pool":["claim-u-vm"],"device":["gpu"],"cdi":["pcioperator.io/claim=claim-5f1c-vm-gpu","pcioperator.io/metadata=5f1c-vm_gpu"]}],"error":[]}]""",
                    dra["prepare " + version]!.ToJsonString()
                );
                Assert.Equal("""[{"uid":["5f1c-vm"],"error":[]}]""", dra["unprepare " + version]!.ToJsonString());
            }

            Assert.Equal("""[{"pool":["claim-u-vm"],"device":["gpu"],"health":[1]}]""", dra["health"]!.ToJsonString());
            Assert.True(lab.Plugin.Status.IsRegistered);

            lab.Node.Given![0] = lab.Node.Given[0] with { ResourceName = Resource };
            lab.Plugin.NodeChanged();
            await kubelet.StandardInput.WriteLineAsync("go on");
            JsonNode device = await SaidAsync(kubelet, errors);
            Assert.Equal(
                """{"version":["v1beta1"],"endpoint":["pcioperator.io-u-vm.sock"],"resource":["pcioperator.io/lab.vm"]}""",
                device["register"]!.ToJsonString()
            );
            Assert.Equal("[1]", device["options"]!.ToJsonString());
            Assert.Equal("""[{"id":["gpu"],"health":["Healthy"]}]""", device["devices"]!.ToJsonString());
            Assert.Equal("""{"PCI_RESOURCE_PCIOPERATOR_IO_LAB_VM":"0000:21:00.0"}""", device["envs"]!.ToJsonString());
            Assert.Contains(
                device["nodes"]!.AsArray(),
                n => n!.ToJsonString() == """{"container":["/dev/vfio/vfio"],"host":["/dev/vfio/vfio"],"permissions":["mrw"]}"""
            );
            Assert.Equal("0", device["start"]!.ToJsonString());
            Assert.Equal("FAILED_PRECONDITION", device["wrong device"]!["code"]!.GetValue<string>());
            Assert.Contains("has no device no-such", device["wrong device"]!["details"]!.GetValue<string>(), StringComparison.Ordinal);
            await kubelet.WaitForExitAsync();
            Assert.Equal(0, kubelet.ExitCode);
        }
        finally
        {
            if (!kubelet.HasExited)
                kubelet.Kill();
        }
    }

    private static async Task<JsonNode> SaidAsync(Process kubelet, Task<string> errors) =>
        await kubelet.StandardOutput.ReadLineAsync() is { } line
            ? JsonNode.Parse(line)!
            : throw new InvalidOperationException(await errors);

    /// <summary>A Python that has grpcio: the system's, or the first on the PATH.</summary>
    private static async Task<string?> PythonAsync()
    {
        foreach (string python in new[] { "/usr/bin/python3", "python3" })
        {
            try
            {
                using Process process = Process.Start(
                    new ProcessStartInfo(python, ["-c", "import grpc"]) { RedirectStandardError = true }
                )!;
                await process.WaitForExitAsync();
                if (process.ExitCode == 0)
                    return python;
            }
            catch (System.ComponentModel.Win32Exception)
            {
                // It isn't there.
            }
        }

        Requirement.IsMissing(
            "there is no python3 with grpcio (Debian: apt-get install python3-grpcio; tests/vm/install-packages does it)."
        );
        return null;
    }
}
