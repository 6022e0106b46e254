using System.Diagnostics;
using System.Text;

namespace PciOperator.Vm.Tests;

/// <summary>What the machine that runs these tests has: folders, programs, and a kernel to boot.</summary>
internal static class Lab
{
    /// <summary>The environment variable with another kernel image (bzImage, or an ELF vmlinux with a PVH entry).</summary>
    public const string KernelVariable = "PCI_TEST_KERNEL";

    /// <summary>The environment variable with the folder that holds that kernel's <c>lib/modules/VERSION</c>.</summary>
    public const string ModulesVariable = "PCI_TEST_KERNEL_MODULES";

    /// <summary>The environment variable with the binary that starts a real API server.</summary>
    public const string ApiServerVariable = "PCI_TEST_APISERVER";

    public const string Qemu = "qemu-system-x86_64";

    public static string Repository { get; } = FindRepository();

    /// <summary>Downloads, images and the machines' logs; ignored by git.</summary>
    public static string Artifacts { get; } = Path.Combine(Repository, "artifacts", "vm");

    /// <summary>In CI nothing is skipped: what is missing is a failure.</summary>
    public static bool IsCi { get; } = Environment.GetEnvironmentVariable("CI") == "true";

    /// <summary>Null when a virtual machine can be started here, else one sentence that says what is missing.</summary>
    public static string? WhyNoVirtualMachine { get; } = FindWhyNoVirtualMachine();

    /// <summary>Null when there is a real API server too, else one sentence that says what is missing.</summary>
    public static string? WhyNoCluster { get; } = WhyNoVirtualMachine ?? FindWhyNoApiServer();

    /// <summary>The agent of an earlier commit.</summary>
    public static string EarlierAgent { get; } = Path.Combine(Repository, "artifacts", "publish", "agent-earlier", "pcioperator-agent");

    /// <summary>Null when there is an earlier agent to upgrade from, else one sentence that says why not.</summary>
    public static string? WhyNoEarlierAgent { get; } =
        File.Exists(EarlierAgent)
            ? null
            : $"{EarlierAgent} is not there: make test-vm publishes it, unless its commit is not in the clone (git fetch --unshallow)";

    /// <summary>The kernel to boot.</summary>
    /// <exception cref="InvalidOperationException">There is none; the message says how to get one.</exception>
    public static Kernel FindKernel() => TryFindKernel() ?? throw new InvalidOperationException(WhyNoVirtualMachine);

    /// <summary>The absolute path of a program on PATH or in a system folder, or null.</summary>
    public static string? FindProgram(string name) =>
        $"{Environment.GetEnvironmentVariable("PATH")}:/usr/sbin:/sbin:/usr/bin:/bin"
            .Split(':', StringSplitOptions.RemoveEmptyEntries)
            .Select(folder => Path.Combine(folder, name))
            .FirstOrDefault(File.Exists);

    /// <summary>The path of a program that make test-vm publishes: agent, controller, vm-guest.</summary>
    public static string Published(string program)
    {
        string path = Path.Combine(Repository, "artifacts", "publish", program, "pcioperator-" + program);
        return File.Exists(path) ? path : throw new FileNotFoundException($"{path} is not there: make test-vm publishes it");
    }

    /// <summary>Runs a program to its end and returns its standard output.</summary>
    /// <exception cref="InvalidOperationException">It ended with another exit code than 0; the message has its standard error.</exception>
    /// <exception cref="TimeoutException">It has not ended within five minutes, and was killed.</exception>
    public static byte[] Run(string program, params IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(FindProgram(program) ?? program, arguments)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        using var output = new MemoryStream();
        Task copied = process.StandardOutput.BaseStream.CopyToAsync(output);
        if (!Task.WaitAll([copied, errors], TimeSpan.FromMinutes(5)))
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException(
                $"{program} {string.Join(' ', start.ArgumentList)} has not ended within five minutes: {Encoding.UTF8.GetString(output.ToArray())}"
            );
        }

        process.WaitForExit();
        return process.ExitCode == 0
            ? output.ToArray()
            : throw new InvalidOperationException(
                $"{program} {string.Join(' ', start.ArgumentList)} ended with {process.ExitCode}: {errors.Result.Trim()}"
            );
    }

    private static Kernel? TryFindKernel()
    {
        if (Environment.GetEnvironmentVariable(KernelVariable) is { Length: > 0 } image)
            return Kernel.In(Environment.GetEnvironmentVariable(ModulesVariable) ?? Path.GetDirectoryName(image)!, image);
        var unpacked = new DirectoryInfo(Path.Combine(Artifacts, "kernel"));
        return unpacked.Exists
            ? unpacked
                .EnumerateDirectories()
                .Where(folder => File.Exists(Path.Combine(folder.FullName, ".complete")))
                .Select(folder =>
                    Kernel.In(folder.FullName, Directory.EnumerateFiles(Path.Combine(folder.FullName, "boot"), "vmlinuz-*").Single())
                )
                .FirstOrDefault()
            : null;
    }

    private static string? FindWhyNoVirtualMachine()
    {
        string[] missing =
        [
            .. new[] { Qemu, "busybox", "kmod", "lspci", "setpci", "ip", "mkfs.ext4", "xz", "ldd" }.Where(program =>
                FindProgram(program) is null
            ),
        ];
        if (missing.Length > 0)
            return $"this machine has no {string.Join(", ", missing)}: run tests/vm/install-packages as root";
        return TryFindKernel() is null
            ? $"no kernel is unpacked: run tests/vm/install-packages as root, or set {KernelVariable} and {ModulesVariable}"
            : null;
    }

    private static string? FindWhyNoApiServer() =>
        Environment.GetEnvironmentVariable(ApiServerVariable) switch
        {
            null or "" => $"{ApiServerVariable} does not name a real API server's binary",
            var path when !File.Exists(path) => $"{ApiServerVariable} names {path}, which does not exist",
            _ => FindProgram("kubectl") is null ? "this machine has no kubectl, which installs config/" : null,
        };

    private static string FindRepository()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder.FullName, "PciOperator.sln")))
        {
            folder =
                folder.Parent
                ?? throw new InvalidOperationException(
                    $"no PciOperator.sln above {AppContext.BaseDirectory}: the tests run inside the repository"
                );
        }

        return folder.FullName;
    }
}

/// <param name="Image">bzImage or vmlinux.</param>
/// <param name="Tree">The folder above <c>lib/modules</c>.</param>
/// <param name="Version">As <c>uname -r</c> prints it.</param>
internal sealed record Kernel(string Image, string Tree, string Version)
{
    public string Modules => Path.Combine(Tree, "lib", "modules", Version);

    public static Kernel In(string tree, string image) =>
        new(image, tree, new DirectoryInfo(Path.Combine(tree, "lib", "modules")).EnumerateDirectories().Single().Name);
}
