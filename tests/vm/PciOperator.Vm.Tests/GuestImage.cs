using System.Security.Cryptography;
using System.Text;

namespace PciOperator.Vm.Tests;

/// <summary>
/// The guest's root: busybox, the host's kmod, lspci, setpci, ip, flock and what .NET needs of glibc, libstdc++ and OpenSSL, and the
/// modules that the lab uses. Built once per kernel and content, and kept under artifacts.
/// </summary>
internal static class GuestImage
{
    /// <summary>Modules that the lab's hardware and tests use; their dependencies come along.</summary>
    private static readonly string[] Modules =
    [
        "virtio_pci",
        "virtio_console",
        "virtio_net",
        "virtio_blk",
        "virtio_rng",
        "9pnet_virtio",
        "9p",
        "ext4",
        "igb",
        "igbvf",
        "e1000e",
        "nvme",
        "vfio",
        "vfio_iommu_type1",
        "vfio-pci",
        "pci-stub",
        "pci-pf-stub",
        "bonding",
        "bridge",
        "8021q",
        "macvlan",
        "veth",
        "dummy",
        "dm-mod",
        "loop",
        "overlay",
    ];

    /// <summary>Programs that are not busybox' own.</summary>
    private static readonly string[] Programs = ["kmod", "lspci", "setpci", "ip", "flock"];

    /// <summary>Libraries that .NET opens by name.</summary>
    private static readonly string[] Libraries =
    [
        "libssl.so.3",
        "libcrypto.so.3",
        "libstdc++.so.6",
        "libgcc_s.so.1",
        "libz.so.1",
        "libm.so.6",
        "librt.so.1",
        "libdl.so.2",
        "libpthread.so.0",
    ];

    private static readonly string[] KmodLinks = ["modprobe", "insmod", "rmmod", "lsmod", "modinfo", "depmod"];

    /// <returns>The path of an initramfs for the kernel.</returns>
    public static string Build(Kernel kernel)
    {
        string[] libraries = [.. FindLibraries()];
        string busybox = Lab.FindProgram("busybox")!;
        string path = Path.Combine(
            Lab.Artifacts,
            $"initramfs-{kernel.Version}-{Fingerprint(kernel, [busybox, .. Programs.Select(program => Lab.FindProgram(program)!), .. libraries])}.cpio"
        );
        if (File.Exists(path))
            return path;

        Directory.CreateDirectory(Lab.Artifacts);
        foreach (string old in Directory.EnumerateFiles(Lab.Artifacts, "initramfs-*"))
            File.Delete(old);
        using (FileStream file = File.Create(path + ".new"))
        using (var archive = new CpioArchive(file))
        {
            foreach (
                string folder in new[] { "/dev", "/proc", "/sys", "/run", "/tmp", "/mnt", "/root", "/var/lib", "/usr/bin", "/usr/sbin" }
            )
            {
                archive.AddFolder(folder);
            }

            foreach (string folder in new[] { "bin", "sbin", "lib", "lib64" })
                archive.AddLink("/" + folder, "usr/" + folder);
            archive.AddFile("/init", Resource("init"), executable: true);
            archive.AddFile("/commands", Resource("commands"), executable: true);
            archive.AddFile("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"u8);
            archive.AddFile("/etc/group", "root:x:0:\n"u8);
            archive.AddFile("/etc/hosts", "127.0.0.1 localhost\n"u8);

            archive.AddFile("/usr/bin/busybox", File.ReadAllBytes(busybox), executable: true);
            foreach (
                string applet in Encoding.UTF8.GetString(Lab.Run(busybox, "--list")).Split('\n', StringSplitOptions.RemoveEmptyEntries)
            )
            {
                if (applet != "busybox" && !KmodLinks.Contains(applet) && !Programs.Contains(applet))
                    archive.AddLink("/usr/bin/" + applet, "busybox");
            }

            foreach (string program in Programs)
                archive.AddFile("/usr/bin/" + program, File.ReadAllBytes(Lab.FindProgram(program)!), executable: true);
            foreach (string link in KmodLinks)
                archive.AddLink("/usr/sbin/" + link, "../bin/kmod");
            foreach (string library in libraries)
                archive.AddFile(InUsr(library), File.ReadAllBytes(library), executable: true);
            if (File.Exists("/usr/share/misc/pci.ids"))
                archive.AddFile("/usr/share/misc/pci.ids", File.ReadAllBytes("/usr/share/misc/pci.ids"));

            AddModules(archive, kernel);
        }

        File.Move(path + ".new", path);
        return path;
    }

    private static void AddModules(CpioArchive archive, Kernel kernel)
    {
        DirectoryInfo stage = Directory.CreateTempSubdirectory("pcioperator-modules");
        try
        {
            string root = Path.Combine(stage.FullName, "lib", "modules", kernel.Version);
            IEnumerable<string> files = Modules.SelectMany(module => DependenciesOf(kernel, module)).Distinct();
            foreach (string file in files)
            {
                string target = Path.Combine(root, Path.GetRelativePath(kernel.Modules, file));
                Directory.CreateDirectory(Path.GetDirectoryName(target)!);
                // Unpacked here: busy emulated processors are slow at it.
                switch (Path.GetExtension(file))
                {
                    case ".xz":
                        File.WriteAllBytes(target[..^3], Lab.Run("xz", "-dc", file));
                        break;
                    case ".zst":
                        File.WriteAllBytes(target[..^4], Lab.Run("zstd", "-dqc", file));
                        break;
                    default:
                        File.Copy(file, target);
                        break;
                }
            }

            foreach (string list in new[] { "modules.order", "modules.builtin", "modules.builtin.modinfo" })
            {
                if (File.Exists(Path.Combine(kernel.Modules, list)))
                    File.Copy(Path.Combine(kernel.Modules, list), Path.Combine(root, list));
            }

            Lab.Run("depmod", "-b", stage.FullName, kernel.Version);
            foreach (string file in Directory.EnumerateFiles(root, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
                archive.AddFile($"/usr/lib/modules/{kernel.Version}/{Path.GetRelativePath(root, file)}", File.ReadAllBytes(file));
        }
        finally
        {
            stage.Delete(recursive: true);
        }
    }

    /// <returns>The module's file and those of what it depends on; none when it is built in.</returns>
    private static IEnumerable<string> DependenciesOf(Kernel kernel, string module)
    {
        // "insmod FILE [OPTION...]" or "builtin NAME" a line
        string output;
        try
        {
            output = Encoding.UTF8.GetString(Lab.Run("modprobe", "-d", kernel.Tree, "-S", kernel.Version, "--show-depends", module));
        }
        catch (InvalidOperationException)
        {
            return []; // a kernel of one's own need not have what only some tests load
        }

        return output.Split('\n').Select(line => line.Split(' ')).Where(words => words is ["insmod", ..]).Select(words => words[1]);
    }

    private static SortedSet<string> FindLibraries()
    {
        string[] known = Encoding.UTF8.GetString(Lab.Run("ldconfig", "-p")).Split('\n');
        string[] named = Libraries
            .Select(name =>
                known
                    .FirstOrDefault(line => line.TrimStart().StartsWith(name + " (libc6,x86-64", StringComparison.Ordinal))
                    ?.Split(" => ")[1]
            )
            .OfType<string>()
            .ToArray();
        IEnumerable<string> linked = Programs
            .Select(program => Lab.FindProgram(program)!)
            .Concat(named)
            .SelectMany(file => Encoding.UTF8.GetString(Lab.Run("ldd", file)).Split('\n'))
            .SelectMany(line => line.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries))
            .Where(word => word.StartsWith('/'));
        return [.. named, .. linked];
    }

    private static string InUsr(string path) => path.StartsWith("/usr/", StringComparison.Ordinal) ? path : "/usr" + path;

    private static string Fingerprint(Kernel kernel, IEnumerable<string> files)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(typeof(GuestImage).Module.ModuleVersionId.ToByteArray());
        foreach (string file in files.Append(kernel.Image))
            hash.AppendData(Encoding.UTF8.GetBytes($"{file} {new FileInfo(file).Length} {File.GetLastWriteTimeUtc(file).Ticks}\n"));
        return Convert.ToHexStringLower(hash.GetHashAndReset())[..16];
    }

    private static byte[] Resource(string name)
    {
        using Stream stream = typeof(GuestImage).Assembly.GetManifestResourceStream(name)!;
        using var copy = new MemoryStream();
        stream.CopyTo(copy);
        return copy.ToArray();
    }
}
