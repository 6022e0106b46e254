using System.Text;

namespace PciOperator.Vm.Tests;

/// <summary>
/// Writes the "newc" archive that the kernel unpacks as its first root (kernel doc: driver-api/early-userspace/buffer-format).
/// </summary>
internal sealed class CpioArchive(Stream output) : IDisposable
{
    private const uint FolderType = 0x4000,
        FileType = 0x8000,
        LinkType = 0xa000;
    private readonly HashSet<string> _folders = [];
    private uint _inode;

    /// <param name="path">Absolute path in the guest; its folders are made on the way.</param>
    /// <param name="content">The file's bytes.</param>
    /// <param name="executable">Mode 0755 rather than 0644.</param>
    public void AddFile(string path, ReadOnlySpan<byte> content, bool executable = false) =>
        AddInFolder(path, FileType | (executable ? 0x1edu : 0x1a4u), content);

    /// <param name="path">Absolute path of the link in the guest.</param>
    /// <param name="target">What it points at.</param>
    public void AddLink(string path, string target) => AddInFolder(path, LinkType | 0x1ff, Encoding.UTF8.GetBytes(target));

    public void AddFolder(string path)
    {
        if (path is "" or "/" || !_folders.Add(path))
            return;
        AddFolder(Path.GetDirectoryName(path)!);
        Append(path, FolderType | 0x1ed, []);
    }

    /// <summary>Writes the trailer. The stream stays open.</summary>
    public void Dispose() => Append("/TRAILER!!!", 0, []);

    private void AddInFolder(string path, uint mode, ReadOnlySpan<byte> content)
    {
        AddFolder(Path.GetDirectoryName(path)!);
        Append(path, mode, content);
    }

    private void Append(string path, uint mode, ReadOnlySpan<byte> content)
    {
        byte[] name = Encoding.UTF8.GetBytes(path.TrimStart('/') + '\0');
        // inode, mode, uid, gid, links, mtime, size, device (2), represented device (2), name size, checksum
        uint[] fields = [++_inode, mode, 0, 0, 1, 0, (uint)content.Length, 0, 0, 0, 0, (uint)name.Length, 0];
        string header = "070701" + string.Concat(fields.Select(field => field.ToString("x8")));
        output.Write(Encoding.ASCII.GetBytes(header));
        output.Write(name);
        Pad(header.Length + name.Length);
        output.Write(content);
        Pad(content.Length);
    }

    private void Pad(int written) => output.Write(stackalloc byte[(4 - written % 4) % 4]);
}
