namespace PciOperator.Vm.Guest;

/// <summary>
/// QEMU's educational device (1234:11e8, docs/specs/edu): it has a buffer of 4096 bytes and copies to and from memory by DMA.
/// </summary>
internal static class EduDevice
{
    private const ulong Source = 0x80,
        Destination = 0x88,
        Count = 0x90,
        Command = 0x98,
        Buffer = 0x40000;
    private const uint Start = 1,
        ToMemory = 2;
    private const int CommandRegister = 4,
        BusMaster = 4,
        MemorySpace = 2;

    /// <summary>Memory to device to other memory, through the IOMMU; prints "DMA copied" when the bytes are the same.</summary>
    public static void Copy(VfioGroup group)
    {
        int device = group.First;
        ulong config = VfioGroup.Region(device, Native.VFIO_PCI_CONFIG_REGION_INDEX);
        Native.Write(device, config + CommandRegister, Native.Read(device, config + CommandRegister, 2) | BusMaster | MemorySpace, 2);

        Span<byte> memory = Native.Pages(2, out nint page);
        Span<byte> from = memory[..Native.PageSize];
        Span<byte> to = memory[Native.PageSize..];
        for (int i = 0; i < from.Length; i++)
            from[i] = (byte)(i * 7 + 3);
        ulong mapped = group.Map(page, 2);
        ulong registers = VfioGroup.Region(device, 0);
        Transfer(mapped, Buffer, Start);
        Transfer(Buffer, mapped + Native.PageSize, Start | ToMemory);
        if (!from.SequenceEqual(to))
            throw new IOException("what the device copied is not what was there");
        group.Unmap(mapped, 2);
        Console.WriteLine("DMA copied");

        void Transfer(ulong source, ulong destination, uint command)
        {
            // Registers from 0x80 take accesses of four and eight bytes.
            Native.Write(device, registers + Source, source, 8);
            Native.Write(device, registers + Destination, destination, 8);
            Native.Write(device, registers + Count, Native.PageSize, 8);
            Native.Write(device, registers + Command, command, 8);
            for (int waited = 0; (Native.Read(device, registers + Command, 4) & Start) != 0; waited++)
            {
                if (waited > 5000)
                    throw new IOException("the device has not finished its DMA");
                Thread.Sleep(1);
            }
        }
    }
}
