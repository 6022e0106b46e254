using System.Reflection;

namespace PciOperator.Host.Tests;

/// <summary>
/// A simulated host's files on a real disk, with what no folder can hold (device nodes, the kernel's network) from the simulation.
/// </summary>
public class OnDisk : DispatchProxy
{
    private IHostFileSystem _disk = null!;
    private IHostFileSystem _simulated = null!;

    public static IHostFileSystem Of(IHostFileSystem disk, IHostFileSystem simulated)
    {
        IHostFileSystem files = Create<IHostFileSystem, OnDisk>();
        var proxy = (OnDisk)(object)files;
        (proxy._disk, proxy._simulated) = (disk, simulated);
        return files;
    }

    protected override object? Invoke(MethodInfo? targetMethod, object?[]? args) =>
        targetMethod!.Invoke(
            targetMethod.Name is nameof(IHostFileSystem.ReadNetwork) or nameof(IHostFileSystem.DeviceAt) ? _simulated : _disk,
            BindingFlags.DoNotWrapExceptions,
            null,
            args,
            null
        );
}
