//! Places of functions in a plugin's table, and the structs that they take. Nothing is called here.
//!
//! Every function takes one pointer to a struct of its own, which begins with its size and a pointer to extensions (null), and
//! most give an error or null. Fields that a newer API added stand last: a plugin that is older ignores them, one that is
//! newer takes a struct that ends early. So what is passed begins as zeros, and the size tells the plugin what it may read.
#![allow(unsafe_code, reason = "a layout that foreign code reads is a promise")]

use std::ffi::{c_char, c_void};

/// What stands before the functions of a table.
#[repr(C)]
pub struct Head {
    pub struct_size: usize,
    pub extension: *mut c_void,
    pub version: Versions,
}

#[repr(C)]
pub struct Versions {
    struct_size: usize,
    extension: *mut c_void,
    pub major: i32,
    pub minor: i32,
}

/// A struct that the function at place `AT` takes.
///
/// # Safety
/// The struct's layout is the C API's for that function, and begins with its size and its extensions.
pub unsafe trait Args {
    const AT: usize;
    const NAME: &'static str;
}

/// Types that only the plugin can look into.
macro_rules! opaque {
    ($($name:ident)*) => {
        $(#[repr(C)] pub struct $name { nothing: [u8; 0] })*
    };
}

opaque! { Error Event Client Device Description Memory Loaded Executable Buffer Topology Serialized Layout }

/// Structs by their fields; `in WORDS` is the size that the C API's header gives it, in words of 8 bytes.
macro_rules! structs {
    ($($(#[$doc:meta])* $name:ident in $words:literal { $($field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Default)]
            pub struct $name {
                pub struct_size: usize,
                pub extension: *mut c_void,
                $(pub $field: $ty,)*
            }

            impl $name {
                /// All zeros but for its size.
                #[allow(dead_code, reason = "plugins fill those of callbacks, and tests in their place")]
                pub fn new() -> Self {
                    $name { struct_size: size_of::<Self>(), ..Default::default() }
                }
            }

            #[cfg(target_pointer_width = "64")]
            const _: () = assert!(size_of::<$name>() == 8 * $words);
        )*
    };
}

/// The same, with the function that takes each.
macro_rules! functions {
    ($($at:literal $function:literal $name:ident in $words:literal { $($field:ident: $ty:ty,)* })*) => {
        structs! { $($name in $words { $($field: $ty,)* })* }
        $(
            // SAFETY: place and fields are those of the header, whose size for the struct is held against ours above.
            unsafe impl Args for $name {
                const AT: usize = $at;
                const NAME: &'static str = $function;
            }
        )*
    };
}

/// Makes an error of the plugin's own: a code, a message, its length. It copies the message.
pub type MakeError = unsafe extern "C" fn(i32, *const c_char, usize) -> *mut Error;
/// Ends a value that a client was given by its key.
pub type DeleteValue = unsafe extern "C" fn(*mut c_char);

structs! {
    /// What a client asks for by a key, for so long, and is given.
    KeyValueGet in 10 {
        key: *const c_char,
        key_size: usize,
        timeout_in_ms: i32,
        callback_error: *const MakeError,
        user_arg: *mut c_void,
        value: *mut c_char,
        value_size: usize,
        value_deleter: Option<DeleteValue>,
    }
    /// What it tells the others.
    KeyValuePut in 8 {
        key: *const c_char,
        key_size: usize,
        value: *const c_char,
        value_size: usize,
        callback_error: *const MakeError,
        user_arg: *mut c_void,
    }
    /// What it asks for and is given if it is there.
    KeyValueTryGet in 9 {
        key: *const c_char,
        key_size: usize,
        callback_error: *const MakeError,
        user_arg: *mut c_void,
        value: *mut c_char,
        value_size: usize,
        value_deleter: Option<DeleteValue>,
    }
    /// An option of a client or a topology. `value` is a pointer for texts and lists, else the number itself.
    NamedValue in 7 { name: *const c_char, name_size: usize, kind: i32, value: u64, value_size: usize, }
    Program in 6 { code: *mut c_char, code_size: usize, format: *const c_char, format_size: usize, }
    ExecuteOptions in 18 {
        send_callbacks: *mut c_void,
        recv_callbacks: *mut c_void,
        num_send_ops: usize,
        num_recv_ops: usize,
        launch_id: i32,
        non_donatable: *const i64,
        num_non_donatable: usize,
        context: *mut c_void,
        call_location: *const c_char,
        num_tasks: usize,
        task_ids: *mut i32,
        incarnation_ids: *mut i64,
        multi_slice_config: *mut c_void,
        major_to_minor_callbacks: u8,
        hlo_output_callbacks: *mut c_void,
        num_hlo_output_callbacks: usize,
    }
}

functions! {
    0 "PJRT_Error_Destroy" ErrorDestroy in 3 { error: *mut Error, }
    1 "PJRT_Error_Message" ErrorMessage in 5 { error: *const Error, message: *const c_char, message_size: usize, }
    2 "PJRT_Error_GetCode" ErrorGetCode in 4 { error: *const Error, code: i32, }
    3 "PJRT_Plugin_Initialize" PluginInitialize in 2 {}
    5 "PJRT_Event_Destroy" EventDestroy in 3 { event: *mut Event, }
    6 "PJRT_Event_IsReady" EventIsReady in 4 { event: *mut Event, is_ready: u8, }
    8 "PJRT_Event_Await" EventAwait in 3 { event: *mut Event, }
    9 "PJRT_Event_OnReady" EventOnReady in 5 {
        event: *mut Event,
        callback: Option<unsafe extern "C" fn(*mut Error, *mut c_void)>,
        user_arg: *mut c_void,
    }
    10 "PJRT_Client_Create" ClientCreate in 11 {
        create_options: *const NamedValue,
        num_options: usize,
        kv_get_callback: Option<unsafe extern "C" fn(*mut KeyValueGet) -> *mut Error>,
        kv_get_user_arg: *mut c_void,
        kv_put_callback: Option<unsafe extern "C" fn(*mut KeyValuePut) -> *mut Error>,
        kv_put_user_arg: *mut c_void,
        client: *mut Client,
        kv_try_get_callback: Option<unsafe extern "C" fn(*mut KeyValueTryGet) -> *mut Error>,
        kv_try_get_user_arg: *mut c_void,
    }
    11 "PJRT_Client_Destroy" ClientDestroy in 3 { client: *mut Client, }
    12 "PJRT_Client_PlatformName" ClientPlatformName in 5 { client: *mut Client, name: *const c_char, name_size: usize, }
    14 "PJRT_Client_PlatformVersion" ClientPlatformVersion in 5 {
        client: *mut Client,
        version: *const c_char,
        version_size: usize,
    }
    15 "PJRT_Client_Devices" ClientDevices in 5 {
        client: *mut Client,
        devices: *const *mut Device,
        num_devices: usize,
    }
    16 "PJRT_Client_AddressableDevices" ClientAddressableDevices in 5 {
        client: *mut Client,
        devices: *const *mut Device,
        num_devices: usize,
    }
    20 "PJRT_Client_Compile" ClientCompile in 7 {
        client: *mut Client,
        program: *const Program,
        options: *const u8,
        options_size: usize,
        executable: *mut Loaded,
    }
    22 "PJRT_Client_BufferFromHostBuffer" ClientBufferFromHostBuffer in 15 {
        client: *mut Client,
        data: *const c_void,
        element: i32,
        dims: *const i64,
        num_dims: usize,
        byte_strides: *const i64,
        num_byte_strides: usize,
        semantics: i32,
        device: *mut Device,
        memory: *mut Memory,
        device_layout: *mut Layout,
        done_with_host_buffer: *mut Event,
        buffer: *mut Buffer,
    }
    23 "PJRT_DeviceDescription_Id" DescriptionId in 4 { description: *mut Description, id: i32, }
    24 "PJRT_DeviceDescription_ProcessIndex" DescriptionProcessIndex in 4 { description: *mut Description, process: i32, }
    26 "PJRT_DeviceDescription_Kind" DescriptionKind in 5 {
        description: *mut Description,
        kind: *const c_char,
        kind_size: usize,
    }
    29 "PJRT_Device_GetDescription" DeviceGetDescription in 4 { device: *mut Device, description: *mut Description, }
    34 "PJRT_Device_MemoryStats" DeviceMemoryStats in 26 {
        device: *mut Device,
        bytes_in_use: i64,
        peak_bytes_in_use: i64,
        peak_bytes_in_use_is_set: u8,
        num_allocs: i64,
        num_allocs_is_set: u8,
        largest_alloc_size: i64,
        largest_alloc_size_is_set: u8,
        bytes_limit: i64,
        bytes_limit_is_set: u8,
        bytes_reserved: i64,
        bytes_reserved_is_set: u8,
        peak_bytes_reserved: i64,
        peak_bytes_reserved_is_set: u8,
        bytes_reservable_limit: i64,
        bytes_reservable_limit_is_set: u8,
        largest_free_block_bytes: i64,
        largest_free_block_bytes_is_set: u8,
        pool_bytes: i64,
        pool_bytes_is_set: u8,
        peak_pool_bytes: i64,
        peak_pool_bytes_is_set: u8,
        peak_allocated_bytes: i64,
        peak_allocated_bytes_is_set: u8,
    }
    40 "PJRT_Executable_Destroy" ExecutableDestroy in 3 { executable: *mut Executable, }
    44 "PJRT_Executable_NumOutputs" ExecutableNumOutputs in 4 { executable: *mut Executable, num_outputs: usize, }
    48 "PJRT_Executable_OptimizedProgram" ExecutableOptimizedProgram in 4 {
        executable: *mut Executable,
        program: *mut Program,
    }
    49 "PJRT_Executable_Serialize" ExecutableSerialize in 7 {
        executable: *const Executable,
        bytes: *const u8,
        bytes_size: usize,
        serialized: *mut Serialized,
        deleter: Option<unsafe extern "C" fn(*mut Serialized)>,
    }
    50 "PJRT_LoadedExecutable_Destroy" LoadedDestroy in 3 { loaded: *mut Loaded, }
    51 "PJRT_LoadedExecutable_GetExecutable" LoadedGetExecutable in 4 {
        loaded: *mut Loaded,
        executable: *mut Executable,
    }
    52 "PJRT_LoadedExecutable_AddressableDevices" LoadedAddressableDevices in 5 {
        loaded: *mut Loaded,
        devices: *const *mut Device,
        num_devices: usize,
    }
    55 "PJRT_LoadedExecutable_Execute" LoadedExecute in 10 {
        loaded: *mut Loaded,
        options: *mut ExecuteOptions,
        argument_lists: *const *const *mut Buffer,
        num_devices: usize,
        num_args: usize,
        output_lists: *const *mut *mut Buffer,
        device_complete_events: *mut *mut Event,
        execute_device: *mut Device,
    }
    56 "PJRT_Executable_DeserializeAndLoad" ExecutableDeserializeAndLoad in 9 {
        client: *mut Client,
        bytes: *const u8,
        bytes_size: usize,
        loaded: *mut Loaded,
        overridden_options: *const u8,
        overridden_options_size: usize,
        load_options: *mut c_void,
    }
    58 "PJRT_Buffer_Destroy" BufferDestroy in 3 { buffer: *mut Buffer, }
    59 "PJRT_Buffer_ElementType" BufferElementType in 4 { buffer: *mut Buffer, element: i32, }
    60 "PJRT_Buffer_Dimensions" BufferDimensions in 5 { buffer: *mut Buffer, dims: *const i64, num_dims: usize, }
    64 "PJRT_Buffer_OnDeviceSizeInBytes" BufferOnDeviceSize in 4 { buffer: *mut Buffer, bytes: usize, }
    67 "PJRT_Buffer_Delete" BufferDelete in 3 { buffer: *mut Buffer, }
    68 "PJRT_Buffer_IsDeleted" BufferIsDeleted in 4 { buffer: *mut Buffer, is_deleted: u8, }
    70 "PJRT_Buffer_ToHostBuffer" BufferToHostBuffer in 7 {
        buffer: *mut Buffer,
        host_layout: *mut Layout,
        to: *mut c_void,
        to_size: usize,
        event: *mut Event,
    }
    72 "PJRT_Buffer_ReadyEvent" BufferReadyEvent in 4 { buffer: *mut Buffer, event: *mut Event, }
    73 "PJRT_Buffer_UnsafePointer" BufferUnsafePointer in 4 { buffer: *mut Buffer, address: usize, }
    82 "PJRT_TopologyDescription_Create" TopologyCreate in 7 {
        name: *const c_char,
        name_size: usize,
        create_options: *const NamedValue,
        num_options: usize,
        topology: *mut Topology,
    }
    83 "PJRT_TopologyDescription_Destroy" TopologyDestroy in 3 { topology: *mut Topology, }
    89 "PJRT_Compile" Compile in 8 {
        topology: *const Topology,
        program: *const Program,
        options: *const u8,
        options_size: usize,
        client: *mut Client,
        executable: *mut Executable,
    }
    96 "PJRT_Executable_GetCompiledMemoryStats" ExecutableGetCompiledMemoryStats in 18 {
        executable: *mut Executable,
        generated_code: i64,
        arguments: i64,
        outputs: i64,
        aliased: i64,
        temporary: i64,
        host_generated_code: i64,
        host_arguments: i64,
        host_outputs: i64,
        host_aliased: i64,
        host_temporary: i64,
        peak: i64,
        total: i64,
        total_allocation: i64,
        indefinite_allocations: i64,
        peak_unpadded_heap: i64,
    }
}
